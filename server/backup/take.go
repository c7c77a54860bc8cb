package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"metastore.io/metastore/server/etcdfile"
)

// TakeOptions say what a backup is taken of, and where it goes.
type TakeOptions struct {
	Name    string
	To      Location
	Members Members
	Codec   Codec
	// Verify is VerifiedChecksum, VerifiedRestoreTest or empty.
	Verify string
	// Scratch is a folder for temporary files, which need the size of the store,
	// and twice more with a restore test; empty is the system's.
	Scratch string
	// ClusterID, in hexadecimal, is the only cluster whose backup is wanted.
	ClusterID string
	Logger    *slog.Logger
}

// maxCompacted is how often a snapshot is taken anew because its member was
// compacted before it told the hash. The last one goes without.
const maxCompacted = 2

// Take takes a backup. On AlreadyExists the manifest is that of the backup which
// is there.
func Take(ctx context.Context, o TakeOptions) (*Manifest, error) {
	t, err := newTaker(o)
	if err != nil {
		return nil, err
	}
	if err := t.to.check(ctx, true); err != nil {
		return nil, err
	}
	switch m, err := readManifest(ctx, t.to, o.Name, ""); {
	case err == nil:
		return m, failf(AlreadyExists, "there is a backup %q in %s, created at %s", o.Name, t.to, m.CreatedAt.Format(time.RFC3339))
	case ReasonOf(err) == NewerFormat, ReasonOf(err) == Corrupt:
		return nil, failf(AlreadyExists, "there is something else at %q in %s: %w", o.Name, t.to, err)
	case ReasonOf(err) != NotFound:
		return nil, err
	}
	if t.scratch, err = newScratch(o.Scratch); err != nil {
		return nil, err
	}
	defer t.scratch.close(o.Logger)
	if err := t.take(ctx); err != nil {
		return nil, errors.Join(err, t.takeBack(ctx))
	}
	return &t.m, nil
}

// taker takes one backup.
type taker struct {
	o       TakeOptions
	to      store
	cluster *cluster
	crypt   []age.Recipient
	keys    []age.Identity
	scratch *scratch
	m       Manifest
	// stored: something may be at the destination that is no backup.
	stored bool
}

func newTaker(o TakeOptions) (*taker, error) {
	if o.Verify != "" && o.Verify != VerifiedChecksum && o.Verify != VerifiedRestoreTest {
		return nil, failf(InvalidArgument, "--verify=%s is not valid: checksum or restore-test is allowed", o.Verify)
	}
	if err := errors.Join(checkName(o.Name), checkClusterID(o.ClusterID), o.Members.validate(), o.Codec.validate()); err != nil {
		return nil, err
	}
	t := &taker{o: o, m: Manifest{Format: format, Name: o.Name, Compression: o.Codec.Compression}}
	var err error
	if t.crypt, err = o.Codec.recipients(); err != nil {
		return nil, err
	}
	if t.keys, err = o.Codec.identities(); err != nil {
		return nil, err
	}
	if len(t.crypt) > 0 {
		t.m.Encryption = EncryptionAge
		if o.Verify == VerifiedRestoreTest && len(t.keys) == 0 {
			return nil, failf(InvalidArgument, "--verify=restore-test of an encrypted backup needs --age-identity-file")
		}
	}
	if t.to, err = o.To.store(); err != nil {
		return nil, err
	}
	t.cluster, err = newCluster(o.Members, o.Logger)
	return t, err
}

func (t *taker) take(ctx context.Context) error {
	file := filepath.Join(t.scratch.dir, snapshotFile)
	if err := t.fetch(ctx, file); err != nil {
		return err
	}
	if err := t.upload(ctx, file); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil {
		return scratchError("remove the snapshot", err)
	}
	if err := t.verify(ctx); err != nil {
		return err
	}
	b, err := t.m.encode()
	if err != nil {
		return withReason(Failed, err)
	}
	return t.to.put(ctx, path.Join(t.o.Name, manifestFile), bytes.NewReader(b), int64(len(b)))
}

// takeBack removes what was stored of a backup that failed.
func (t *taker) takeBack(ctx context.Context) error {
	if !t.stored {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if err := t.to.remove(ctx, t.o.Name); err != nil {
		return fmt.Errorf("take back what was stored: %w", err)
	}
	return nil
}

// fetch gets a snapshot of which all is known from one of the members. One that
// is lost is replaced by another.
func (t *taker) fetch(ctx context.Context, file string) error {
	for try, compacted := 1, 0; ; try++ {
		s, err := t.cluster.next(ctx)
		if err != nil {
			return err
		}
		err = t.fetchFrom(ctx, s, file)
		_ = s.client.Close() // all was received, or that failed first
		if errors.Is(err, errCompacted) {
			if compacted++; compacted <= maxCompacted {
				t.o.Logger.Info("taking the snapshot again", "reason", err)
				continue
			}
			t.o.Logger.Warn("the backup has no hash", "reason", err)
			return nil
		}
		var final *Error
		if err == nil || ctx.Err() != nil || errors.As(err, &final) {
			return withReason(Failed, err)
		}
		if reason := memberReason(err); reason == AccessDenied || try == maxTries {
			return failf(reason, "snapshot of %s: %w", s.endpoint, err)
		}
		t.o.Logger.Warn("a member was lost", "endpoint", s.endpoint, "error", err)
		t.cluster.failed[s.endpoint] = true
	}
}

// fetchFrom fills the manifest from one member. An Error is final, anything else
// may go better with another member.
func (t *taker) fetchFrom(ctx context.Context, s *source, file string) error {
	if err := checkCluster(s.clusterID(), t.o.ClusterID); err != nil {
		return fmt.Errorf("%s: %w", s.endpoint, err)
	}
	t.o.Logger.Info("taking a snapshot", "endpoint", s.endpoint, "member", s.memberID(), "leader", s.rank() == 1)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return scratchError("make a file", err)
	}
	err = s.download(ctx, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	c, err := inspect(file, etcdfile.HashRequired)
	if err != nil {
		return err // what the member sent is not whole
	}
	t.m.CreatedAt = time.Now().UTC().Truncate(time.Second)
	t.m.ClusterID, t.m.MemberID = s.clusterID(), s.memberID()
	t.m.Version, t.m.EtcdVersion = s.version, s.status.Version
	t.m.Revision, t.m.CompactRevision = max(c.Revision, 1), max(c.Compaction.Scheduled, 0)
	t.m.RaftIndex, t.m.RaftTerm = c.Index, c.Term
	t.m.Hash, t.m.Keys, err = s.describe(ctx, t.m.Revision, t.m.CompactRevision)
	return err
}

// inspect reads what a snapshot stands for.
func inspect(file string, check etcdfile.HashCheck) (c etcdfile.Contents, err error) {
	f, err := etcdfile.Open(file, check)
	if err != nil {
		return c, err
	}
	c, err = f.Inspect(0)
	return c, errors.Join(err, f.Close())
}

// upload stores the snapshot.
func (t *taker) upload(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return scratchError("read the snapshot", err)
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	if err != nil {
		return scratchError("read the snapshot", err)
	}
	plain := newDigest(f)
	code := encode(plain, t.o.Codec.Compression, t.crypt)
	defer func() { _ = code.Close() }() // put read it to its end, or failed
	stored := newDigest(code)
	t.stored = true
	// Neither zstd nor age adds more than a thousandth.
	if err := t.to.put(ctx, t.m.snapshot(), stored, info.Size()+info.Size()/100+copyBytes); err != nil {
		return err
	}
	t.m.SnapshotBytes, t.m.SnapshotSHA256 = plain.bytes, plain.hex()
	t.m.StoredBytes, t.m.StoredSHA256 = stored.bytes, stored.hex()
	t.o.Logger.Info("stored", "backup", t.o.Name, "bytes", t.m.StoredBytes)
	return nil
}

// verify reads back what was stored.
func (t *taker) verify(ctx context.Context) error {
	if t.o.Verify == "" {
		return nil
	}
	v := verifier{from: t.to, m: &t.m, keys: t.keys, scratch: t.scratch, logger: t.o.Logger}
	return v.verify(ctx, t.o.Verify)
}

// scratch is a folder for the files of one command.
type scratch struct{ dir string }

func newScratch(in string) (*scratch, error) {
	if in == "" {
		in = os.TempDir()
	}
	dir, err := os.MkdirTemp(in, "metastore-backup-")
	if err != nil {
		return nil, scratchError("make a folder for temporary files (--scratch says where)", err)
	}
	return &scratch{dir: dir}, nil
}

func (s *scratch) close(logger *slog.Logger) {
	if err := os.RemoveAll(s.dir); err != nil {
		logger.Warn("temporary files not removed", "error", err)
	}
}

// checkFree wants room in a folder's file system.
func checkFree(dir string, bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return scratchError("look for free space in "+dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < bytes {
		return failf(NoSpace, "%s has %d bytes free, %d are needed", dir, free, bytes)
	}
	return nil
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"filippo.io/age"

	"metastore.io/metastore/server/etcdfile"
)

// VerifyOptions say which backup is verified, and how.
type VerifyOptions struct {
	Name  string
	From  Location
	Codec Codec
	// EtcdSnapshot: Name is a bare snapshot file of etcd or MetaStore. It is looked
	// at as a restore looks at it.
	EtcdSnapshot bool
	// RestoreTest starts a server on the backup and compares what it holds.
	RestoreTest bool
	// Scratch is a folder for temporary files; empty is the system's. Only a
	// restore test needs one, and a bare file that is not in a folder.
	Scratch   string
	ClusterID string
	Logger    *slog.Logger
}

// Verify reads a whole backup. The manifest that it returns says in Verified
// what was done.
func Verify(ctx context.Context, o VerifyOptions) (*Manifest, error) {
	if err := errors.Join(checkName(o.Name), checkClusterID(o.ClusterID)); err != nil {
		return nil, err
	}
	v := verifier{logger: o.Logger}
	var err error
	if v.keys, err = o.Codec.identities(); err != nil {
		return nil, err
	}
	if v.from, err = o.From.store(); err != nil {
		return nil, err
	}
	if err := v.from.check(ctx, false); err != nil {
		return nil, err
	}
	if o.EtcdSnapshot {
		return v.bare(ctx, o)
	}
	if v.m, err = readManifest(ctx, v.from, o.Name, o.ClusterID); err != nil {
		return nil, err
	}
	how := VerifiedChecksum
	if o.RestoreTest {
		how = VerifiedRestoreTest
		if v.scratch, err = newScratch(o.Scratch); err != nil {
			return nil, err
		}
		defer v.scratch.close(o.Logger)
	}
	return v.m, v.verify(ctx, how)
}

// bare inspects a bare snapshot file. It says of itself no more than its revision.
func (v *verifier) bare(ctx context.Context, o VerifyOptions) (*Manifest, error) {
	if o.RestoreTest {
		return nil, failf(InvalidArgument, "--restore-test compares with a manifest, which a bare snapshot file has not: give one of --restore-test and --etcd-snapshot")
	}
	source, size, err := v.from.open(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = source.Close() }() // only read from
	file, ok := v.from.local(o.Name)
	if !ok {
		if v.scratch, err = newScratch(o.Scratch); err != nil {
			return nil, err
		}
		defer v.scratch.close(o.Logger)
		file = filepath.Join(v.scratch.dir, snapshotFile)
		if err := errors.Join(checkFree(v.scratch.dir, size), copyTo(ctx, source, file)); err != nil {
			return nil, err
		}
	}
	c, err := inspect(file, etcdfile.HashIfPresent)
	if err != nil {
		return nil, fileError(err)
	}
	return &Manifest{Name: o.Name, Revision: max(c.Revision, 1), SnapshotBytes: size, StoredBytes: size, Verified: VerifiedChecksum}, nil
}

// verifier verifies what is stored of one backup.
type verifier struct {
	from    store
	m       *Manifest
	keys    []age.Identity
	scratch *scratch
	logger  *slog.Logger
}

func (v *verifier) verify(ctx context.Context, how string) error {
	var err error
	if how == VerifiedRestoreTest {
		err = v.restoreTest(ctx)
	} else {
		err = v.checksum(ctx)
	}
	if err == nil {
		v.m.Verified = how
	}
	return err
}

// checksum reads everything. Without the key the stored bytes are all that can
// be looked at.
func (v *verifier) checksum(ctx context.Context) error {
	if v.m.Encryption == "" || len(v.keys) > 0 {
		return unpack(ctx, v.from, v.m, v.keys, io.Discard)
	}
	stored := *v.m
	stored.Compression, stored.Encryption = CompressionNone, ""
	stored.SnapshotBytes, stored.SnapshotSHA256 = stored.StoredBytes, stored.StoredSHA256
	return unpack(ctx, sealed{v.from, v.m.snapshot()}, &stored, nil, io.Discard)
}

// sealed is a store whose one object is taken as it is.
type sealed struct {
	store
	name string
}

func (s sealed) open(ctx context.Context, _ string) (io.ReadCloser, int64, error) {
	return s.store.open(ctx, s.name)
}

// restoreTest restores into the scratch folder and starts a server there.
func (v *verifier) restoreTest(ctx context.Context) error {
	if err := checkKeys(v.m, v.keys); err != nil {
		return err
	}
	if err := checkFree(v.scratch.dir, restoreBytes(v.m.SnapshotBytes)); err != nil {
		return err
	}
	file := filepath.Join(v.scratch.dir, snapshotFile)
	if err := unpackTo(ctx, v.from, v.m, v.keys, file); err != nil {
		return err
	}
	if err := checkContents(v.m, file); err != nil {
		return err
	}
	got, err := serveOnce(ctx, file, filepath.Join(v.scratch.dir, "data"), v.m.Revision, v.logger)
	if err != nil {
		if full(err) {
			return failf(NoSpace, "restore test: %w", err)
		}
		if ctx.Err() != nil {
			return withReason(Failed, err)
		}
		return failf(RestoreTestFailed, "restore test: %w", err)
	}
	return v.compare(got)
}

// compare wants the server to hold what the manifest says; what it does not say
// is taken from the server.
func (v *verifier) compare(got held) error {
	m := v.m
	if m.Hash == 0 && m.Keys == 0 {
		m.Hash, m.Keys = got.hash, got.keys
	}
	want := held{compactRevision: m.CompactRevision, keys: m.Keys, hash: m.Hash}
	if got != want {
		return failf(RestoreTestFailed, "restore test: the restored server holds %s, the backup's manifest says %s", got, want)
	}
	v.logger.Info("the restore test passed", "backup", m.Name, "held", got.String())
	return nil
}

// held is what a restored server holds at the revision of the backup.
type held struct {
	compactRevision, keys int64
	hash                  uint32
}

func (h held) String() string {
	return fmt.Sprintf("%d keys, hash %d, compacted to %d", h.keys, h.hash, h.compactRevision)
}

// unpackTo is unpack into a new file.
func unpackTo(ctx context.Context, s store, m *Manifest, keys []age.Identity, name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return scratchError("make a file", err)
	}
	err = unpack(ctx, s, m, keys, f)
	return errors.Join(err, f.Close())
}

// restoreBytes is the room that a restore needs for a snapshot of a size: the
// file, and as much again for what is made of it.
func restoreBytes(snapshotBytes int64) int64 { return 2*snapshotBytes + 64<<20 }

// checkContents wants a snapshot that was unpacked to stand for what the
// manifest says.
func checkContents(m *Manifest, file string) error {
	c, err := inspect(file, etcdfile.HashVerified)
	if err != nil {
		return fileError(err)
	}
	if max(c.Revision, 1) != m.Revision || max(c.Compaction.Scheduled, 0) != m.CompactRevision || c.Index != m.RaftIndex || c.Term != m.RaftTerm {
		return failf(Corrupt, "backup %q holds revision %d, compacted to %d, of index %d and term %d, which is not what its manifest says",
			m.Name, c.Revision, c.Compaction.Scheduled, c.Index, c.Term)
	}
	return nil
}

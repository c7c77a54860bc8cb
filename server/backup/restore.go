package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/etcdfile"
	"metastore.io/metastore/server/node"
)

// RestoreOptions say which backup becomes which member's data dir.
type RestoreOptions struct {
	Name  string
	From  Location
	Codec Codec
	// EtcdSnapshot: Name is a bare snapshot file of etcd or MetaStore.
	EtcdSnapshot bool
	// ClusterID, in hexadecimal, is the only cluster whose backup is wanted.
	ClusterID string
	// Member says who the member is, in which cluster, with which engine, and
	// where its data dir is.
	Member node.Config
	// BumpRevision adds revisions and marks all as compacted; 0 does neither.
	BumpRevision uint64
	// Once is the word of this restore: the data dir may exist, and repeating a
	// restore with the word of one that is done does nothing.
	Once   string
	Logger *slog.Logger
}

// Restored tells what a restore did.
type Restored struct {
	// Manifest is nil for a bare snapshot file.
	Manifest *Manifest `json:"manifest,omitempty"`
	// Revision is the newest one of the data dir.
	Revision int64 `json:"revision"`
}

// Restore makes a data dir. Nothing at its path is touched before the new one
// is whole beside it.
func Restore(ctx context.Context, o RestoreOptions) (*Restored, error) {
	r, err := newRestorer(o)
	if err != nil {
		return nil, err
	}
	return r.restore(ctx)
}

// restorer makes one data dir.
type restorer struct {
	o    RestoreOptions
	from store
	swap *swap
}

func newRestorer(o RestoreOptions) (*restorer, error) {
	if err := errors.Join(checkClusterID(o.ClusterID), checkRestoreName(o)); err != nil {
		return nil, err
	}
	if o.EtcdSnapshot && o.ClusterID != "" {
		return nil, failf(InvalidArgument, "--cluster-id does not go with --etcd-snapshot: a bare snapshot does not say of which cluster it is")
	}
	r := &restorer{o: o}
	var err error
	if r.from, err = o.From.store(); err != nil {
		return nil, err
	}
	if r.swap, err = newSwap(disk.OS(), o.Member.DataDir, o.Once); err != nil {
		return nil, err
	}
	r.o.Member.DataDir = r.swap.fresh
	if err := r.o.Member.Validate(); err != nil {
		return nil, withReason(InvalidArgument, err)
	}
	return r, nil
}

func (r *restorer) restore(ctx context.Context) (*Restored, error) {
	done, err := r.swap.done()
	if err != nil || done != nil {
		return done, err
	}
	if err := r.from.check(ctx, false); err != nil {
		return nil, err
	}
	whole, err := r.swap.whole()
	if err != nil {
		return nil, err
	}
	if !whole {
		if err := r.build(ctx); err != nil {
			return nil, err
		}
	}
	return r.swap.replace()
}

// checkRestoreName lets bare files have any name below the destination.
func checkRestoreName(o RestoreOptions) error {
	if !o.EtcdSnapshot {
		return checkName(o.Name)
	}
	if o.Name == "" || !filepath.IsLocal(o.Name) {
		return failf(InvalidArgument, "the name %q is not valid: the path of a file below --from is allowed", o.Name)
	}
	return nil
}

// build makes the new data dir beside the old one.
func (r *restorer) build(ctx context.Context) error {
	if err := r.swap.prepare(); err != nil {
		return err
	}
	file, done, check, err := r.snapshot(ctx)
	if err != nil {
		return errors.Join(err, r.swap.discard())
	}
	if err := r.buildFrom(ctx, file, check, done); err != nil {
		return errors.Join(err, r.swap.discard())
	}
	return nil
}

func (r *restorer) buildFrom(ctx context.Context, file string, check etcdfile.HashCheck, done *Restored) error {
	c, err := inspect(file, check)
	if err != nil {
		return fileError(err)
	}
	done.Revision = max(c.Revision, 1) + int64(r.o.BumpRevision)
	err = node.Restore(ctx, r.o.Member, node.RestoreOptions{File: file, Check: etcdfile.HashVerified, BumpRevision: r.o.BumpRevision})
	if err != nil {
		return r.failure(err)
	}
	return r.swap.seal(done)
}

func (r *restorer) failure(err error) error {
	var exit *node.ExitError
	switch {
	case full(err):
		return failf(NoSpace, "restore: %w", err)
	case errors.As(err, &exit) && exit.Code == node.ExitUsage, strings.Contains(err.Error(), "--bump-revision="):
		return failf(InvalidArgument, "restore: %w", err)
	case errors.As(err, &exit) && exit.Code == node.ExitCorrupt:
		return failf(Corrupt, "restore: %w", err)
	}
	return withReason(Failed, fmt.Errorf("restore: %w", err))
}

// snapshot gives the path of the snapshot file, which was found to be what its
// manifest says.
func (r *restorer) snapshot(ctx context.Context) (string, *Restored, etcdfile.HashCheck, error) {
	if r.o.EtcdSnapshot {
		file, err := r.bareFile(ctx)
		return file, &Restored{}, etcdfile.HashIfPresent, err
	}
	m, err := readManifest(ctx, r.from, r.o.Name, r.o.ClusterID)
	if err != nil {
		return "", nil, 0, err
	}
	keys, err := r.o.Codec.identities()
	if err == nil {
		err = checkKeys(m, keys)
	}
	if err == nil {
		err = checkFree(r.swap.parent(), restoreBytes(m.SnapshotBytes))
	}
	if err == nil {
		err = unpackTo(ctx, r.from, m, keys, r.swap.spool)
	}
	if err == nil {
		err = checkContents(m, r.swap.spool)
	}
	return r.swap.spool, &Restored{Manifest: m}, etcdfile.HashVerified, err
}

// bareFile copies the file unless it lies in this machine's file system.
func (r *restorer) bareFile(ctx context.Context) (string, error) {
	source, size, err := r.from.open(ctx, r.o.Name)
	if err != nil {
		return "", err
	}
	defer func() { _ = source.Close() }() // only read from
	if err := checkFree(r.swap.parent(), restoreBytes(size)); err != nil {
		return "", err
	}
	if p, ok := r.from.local(r.o.Name); ok {
		return p, nil
	}
	return r.swap.spool, copyTo(ctx, source, r.swap.spool)
}

func copyTo(ctx context.Context, source io.Reader, file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return scratchError("make a file", err)
	}
	return errors.Join(copyBare(ctx, source, f), f.Close())
}

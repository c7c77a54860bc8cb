package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/etcdfile"
	"metastore.io/metastore/server/replica"
)

// RestoreOptions say what a data dir is made from.
type RestoreOptions struct {
	// File is a snapshot of etcd or of MetaStore.
	File string
	// Check says what is asked of its SHA-256, which one that was copied from a
	// data dir of etcd does not have.
	Check etcdfile.HashCheck
	// BumpRevision adds revisions and marks all as compacted; 0 does neither.
	BumpRevision uint64
}

// Restore makes a data dir that holds the keys, the history and the leases of a
// snapshot, for one of the first members of a new cluster; each of them makes
// its own from the same file. c says who it is and where, as at a first start.
// Nothing is touched before the file was found whole and the data dir empty; a
// restore that fails later leaves it empty, and one that is cut off leaves it
// so that no member starts on it and Restore can be called again.
func Restore(ctx context.Context, c Config, o RestoreOptions) error {
	if err := c.Validate(); err != nil {
		return &ExitError{Code: ExitUsage, Err: err}
	}
	initial, _, err := c.initialPeers(ctx)
	if err != nil {
		return err
	}
	file, err := etcdfile.Open(o.File, o.Check)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read from
	contents, err := file.Inspect(o.BumpRevision)
	if err != nil {
		return err
	}
	if err := checkEmpty(disk.OS(), c.DataDir); err != nil {
		return err
	}
	n := &Node{c: &c, metrics: newMetrics()}
	if n.dir, err = openDataDir(disk.OS(), c.DataDir); err != nil {
		return err
	}
	err = n.restore(ctx, file, o.BumpRevision, newCluster(&c, initial))
	if err = errors.Join(withCode(err), n.closeStorage()); err != nil {
		return errors.Join(err, emptyAgain(disk.OS(), c.DataDir))
	}
	c.Logger.Info("restored", "file", o.File, "data-dir", c.DataDir, "revision", contents.Revision+int64(o.BumpRevision))
	return nil
}

// checkEmpty wants a data dir that is missing, empty, or left by a restore that
// was cut off.
func checkEmpty(f disk.FS, dir string) error {
	names, err := f.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the data dir: %w", err)
	}
	d := &dataDir{fs: f, dir: dir}
	if err := d.readMarker(); err == nil && d.marker != nil && d.marker.Restoring {
		return nil
	}
	for _, n := range names {
		if n != "lost+found" && n != lockFile {
			return exitf(ExitForeign, "the data dir %s is not empty, it holds %q; a snapshot is restored into a new one", dir, n)
		}
	}
	return nil
}

// emptyAgain takes back what a failed restore wrote.
func emptyAgain(f disk.FS, dir string) error {
	d := &dataDir{fs: f, dir: dir}
	if err := d.clear(); err != nil {
		return err
	}
	for _, n := range []string{markerFile, lockFile} {
		if err := f.Remove(path.Join(dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear the data dir: %w", err)
		}
	}
	return nil
}

// restore fills the storage and writes the first state over it: the members are
// the new cluster's, and its log begins anew. The members' names are known, so
// that one whose restore was forgotten is told so instead of beginning empty.
func (n *Node) restore(ctx context.Context, file *etcdfile.File, bump uint64, id identity) error {
	m := marker{
		Format: markerFormat, Engine: n.c.StorageEngine, Token: n.c.InitialClusterToken,
		ClusterID: strconv.FormatUint(id.clusterID, 16), MemberID: strconv.FormatUint(id.memberID, 16),
		Restoring: true,
	}
	if err := n.dir.writeMarker(m); err != nil {
		return err
	}
	if err := n.dir.clear(); err != nil {
		return err
	}
	e, err := n.openEngine()
	if err != nil {
		return err
	}
	keys, err := file.CopyTo(ctx, e, group, bump)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	if err := n.openMachine(e, keys); err != nil {
		return err
	}
	if err := n.bootstrap(id); err != nil {
		return err
	}
	if err := n.rest(); err != nil {
		return err
	}
	m.Restoring, m.Ready = false, true
	return n.dir.writeMarker(m)
}

// rest leaves an image of the index, which was just built, for the first start.
func (n *Node) rest() error {
	applied, _ := n.machine.Applied()
	nothing := func(uint64) uint64 { return 0 } // the log has just begun
	return replica.Rest(n.log, group, n.engines, n.machine, applied, nothing)
}

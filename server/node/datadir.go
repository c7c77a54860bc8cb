package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"metastore.io/metastore/server/disk"
)

// A data dir:
//
//	LOCK      held while a process uses the dir
//	MARKER    whose dir this is; two lines: JSON, and its CRC32C in hexadecimal
//	log/      the raft log
//	engine/   the engines, see replica.Engines
//	tmp/      what is made to be sent; nothing in it outlives a start
const (
	lockFile   = "LOCK"
	markerFile = "MARKER"
	logDir     = "log"
	engineDir  = "engine"
	// fixturesDir holds the certificates that auto TLS makes before all else.
	fixturesDir = "fixtures"
	tmpDir      = "tmp"

	// markerFormat is the version of the whole data dir's layout.
	markerFormat   = 1
	maxMarkerBytes = 64 << 10
)

// marker says whose data dir this is.
type marker struct {
	Format    int    `json:"format"`
	Engine    string `json:"engine"`
	ClusterID string `json:"cluster_id"` // hexadecimal
	MemberID  string `json:"member_id"`  // hexadecimal
	Token     string `json:"initial_cluster_token"`
	// Starts counts the starts of this member. Each start is an incarnation of
	// its own, so that no proposal's identity is ever used twice.
	Starts uint64 `json:"starts"`
	// Ready: the first state is written. A dir whose first start was cut off
	// before that holds nothing and begins anew.
	Ready bool `json:"ready"`
	// Restoring: a restore into this dir has begun and not ended. No member
	// starts on it; another restore may.
	Restoring bool `json:"restoring,omitempty"`
	// Forced is the --force-new-cluster-once that was carried out last.
	Forced string `json:"forced,omitempty"`
}

func (m marker) ids() (cluster, member uint64, err error) {
	cluster, err1 := strconv.ParseUint(m.ClusterID, 16, 64)
	member, err2 := strconv.ParseUint(m.MemberID, 16, 64)
	return cluster, member, errors.Join(err1, err2)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// dataDir is a locked data dir.
type dataDir struct {
	fs   disk.FS
	dir  string
	lock io.Closer
	// marker is nil in a dir that no member has used yet.
	marker *marker
}

// openDataDir locks a data dir, which it makes when missing, and reads its
// marker.
func openDataDir(f disk.FS, dir string) (*dataDir, error) {
	if err := f.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make the data dir: %w", err)
	}
	lock, err := f.Lock(path.Join(dir, lockFile))
	if errors.Is(err, disk.ErrLocked) {
		return nil, exitf(ExitLocked, "the data dir %s is in use by another process", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the data dir: %w", err)
	}
	d := &dataDir{fs: f, dir: dir, lock: lock}
	if err := d.readMarker(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func (d *dataDir) close() error { return d.lock.Close() }

func (d *dataDir) readMarker() error {
	name := path.Join(d.dir, markerFile)
	b, err := disk.ReadFile(d.fs, name, maxMarkerBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return d.checkUnused()
	}
	if err != nil {
		return exitf(ExitCorrupt, "%w; restore the file or replace this member", err)
	}
	text, sum, _ := strings.Cut(strings.TrimSuffix(string(b), "\n"), "\n")
	if fmt.Sprintf("%08x", crc32.Checksum([]byte(text), castagnoli)) != sum {
		return exitf(ExitCorrupt, "%s does not match its checksum; restore the file or replace this member", name)
	}
	var m marker
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return exitf(ExitCorrupt, "%s is not readable: %w; restore the file or replace this member", name, err)
	}
	if m.Format > markerFormat {
		return exitf(ExitNewer, "the data dir %s has format %d, this version knows up to %d; run a newer version", d.dir, m.Format, markerFormat)
	}
	d.marker = &m
	return nil
}

// checkUnused refuses a dir that holds somebody else's files.
func (d *dataDir) checkUnused() error {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return fmt.Errorf("list the data dir: %w", err)
	}
	for _, n := range names {
		if n != lockFile && n != fixturesDir && n != "lost+found" && n != markerFile+".new" {
			return exitf(ExitForeign, "the data dir %s holds %q but no MetaStore marker; give --data-dir an empty folder or the right one", d.dir, n)
		}
	}
	return nil
}

func (d *dataDir) writeMarker(m marker) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	content := fmt.Sprintf("%s\n%08x\n", text, crc32.Checksum(text, castagnoli))
	if err := disk.WriteFile(d.fs, d.dir, markerFile, []byte(content)); err != nil {
		return err
	}
	d.marker = &m
	return nil
}

// clear removes what a cut-off first start or restore left.
func (d *dataDir) clear() error {
	for _, n := range []string{logDir, engineDir} {
		if err := d.fs.RemoveAll(path.Join(d.dir, n)); err != nil {
			return fmt.Errorf("clear the data dir: %w", err)
		}
	}
	return d.fs.SyncDir(d.dir)
}

// clearTmp removes what an earlier run did not come to remove.
func (d *dataDir) clearTmp() error {
	if err := d.fs.RemoveAll(path.Join(d.dir, tmpDir)); err != nil {
		return fmt.Errorf("clear the data dir: %w", err)
	}
	return nil
}

// checkMarker compares the marker with what the member was told to be.
func (d *dataDir) checkMarker(c *Config) error {
	m := d.marker
	if m.Engine != c.StorageEngine {
		return exitf(ExitForeign, "the data dir %s was written by the %s engine, not by --storage-engine=%s", d.dir, m.Engine, c.StorageEngine)
	}
	if c.InitialTokenExplicit && m.Token != c.token() {
		return exitf(ExitForeign, "the data dir %s belongs to the cluster with the token %q, not to --initial-cluster-token=%s", d.dir, m.Token, c.token())
	}
	return nil
}

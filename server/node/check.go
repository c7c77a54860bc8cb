package node

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// CheckOptions say what Check looks at.
type CheckOptions struct {
	DataDir string
	// Revision is the one whose hash is told; 0 is the newest. Members are
	// compared by their hashes of one revision and one compact revision.
	Revision int64
}

// CheckReport is what a whole data dir holds. IDs are hexadecimal.
type CheckReport struct {
	DataDir      string `json:"dataDir"`
	Engine       string `json:"engine"`
	ClusterID    string `json:"clusterID"`
	MemberID     string `json:"memberID"`
	Incarnations uint64 `json:"incarnations"`
	// Started is false where no first state is there yet, and nothing below.
	Started bool `json:"started"`
	Members int  `json:"members"`

	// FirstIndex to LastIndex are the entries of the log. AppliedIndex is what
	// the engine holds with what was applied of the log to come here.
	FirstIndex   uint64 `json:"firstIndex"`
	LastIndex    uint64 `json:"lastIndex"`
	CommitIndex  uint64 `json:"commitIndex"`
	Segments     int    `json:"segments"`
	FlushedIndex uint64 `json:"flushedIndex"`
	AppliedIndex uint64 `json:"appliedIndex"`
	AppliedTerm  uint64 `json:"appliedTerm"`

	Revision        int64 `json:"revision"`
	CompactRevision int64 `json:"compactRevision"`
	Keys            int64 `json:"keys"`
	Leases          int   `json:"leases"`
	AuthEnabled     bool  `json:"authEnabled"`
	Users           int   `json:"users"`
	Roles           int   `json:"roles"`

	// Hash is HashKV at HashRevision.
	Hash         uint32 `json:"hash"`
	HashRevision int64  `json:"hashRevision"`

	// Notes tell what is unusual and harmless.
	Notes []string `json:"notes,omitempty"`
}

func (r *CheckReport) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Check verifies the data dir of a member that does not run, with the code that
// a start would run, and beyond what a start reads: all blocks and rows. It
// changes nothing. What is wrong has the exit code that a start would end with.
func Check(o CheckOptions) (*CheckReport, error) {
	k, err := newChecker(o.DataDir)
	if err != nil {
		return nil, err
	}
	if err := k.close(k.run(o.Revision)); err != nil {
		return nil, err
	}
	return k.report, nil
}

// checker opens a data dir as a member does, over an overlay: recovery's repairs
// and the entries that it applies stay in memory, or in scratch.
type checker struct {
	n       *Node
	scratch string
	report  *CheckReport
}

func newChecker(dataDir string) (*checker, error) {
	c := DefaultConfig()
	c.DataDir, c.Logger = path.Clean(dataDir), slog.New(slog.DiscardHandler)
	scratch, err := makeScratch(os.TempDir(), "/dev/shm")
	if err != nil {
		return nil, err
	}
	return &checker{n: &Node{c: &c, metrics: newMetrics()}, scratch: scratch, report: &CheckReport{DataDir: c.DataDir}}, nil
}

// makeScratch makes a folder in the first of dirs that allows it: an image with
// nothing but the binary has no /tmp, and every container has shared memory. It
// takes what is applied of the log, and small files of RocksDB.
func makeScratch(dirs ...string) (scratch string, err error) {
	var failed error
	for _, dir := range dirs {
		if scratch, err = os.MkdirTemp(dir, "metastore-check-"); err == nil {
			return scratch, nil
		}
		failed = errors.Join(failed, err)
	}
	return "", fmt.Errorf("the check needs a folder for temporary files, set TMPDIR: %w", failed)
}

// close ends a check that found err, and gives it its exit code.
func (k *checker) close(err error) error {
	closing := errors.Join(k.n.closeStorage(), os.RemoveAll(k.scratch))
	if err == nil {
		return closing
	}
	return k.withPlaces(withCode(err))
}

func (k *checker) run(rev int64) error {
	if err := k.open(); err != nil || !k.report.Started {
		return err
	}
	if err := k.replay(); err != nil {
		return err
	}
	return k.readState(rev)
}

// open opens everything and compares the parts.
func (k *checker) open() (err error) {
	n := k.n
	if info, err := os.Stat(n.c.DataDir); err != nil {
		return &ExitError{Code: ExitUsage, Err: err}
	} else if !info.IsDir() {
		return exitf(ExitUsage, "%s is not a folder", n.c.DataDir)
	}
	if n.dir, err = openDataDir(disk.Overlay(), n.c.DataDir); err != nil {
		return err
	}
	m := n.dir.marker
	if m == nil {
		return exitf(ExitEmpty, "the data dir %s is empty, there is nothing to check", n.c.DataDir)
	}
	r := k.report
	r.Engine, r.ClusterID, r.MemberID, r.Incarnations = m.Engine, m.ClusterID, m.MemberID, m.Starts
	switch {
	case m.Engine != EngineMemory && m.Engine != EngineRocksDB:
		return exitf(ExitNewer, "the data dir %s was written by the engine %q, which this version does not have; run a newer version", n.c.DataDir, m.Engine)
	case m.Restoring:
		return exitf(ExitCorrupt, "a restore into the data dir %s was cut off; run it again", n.c.DataDir)
	case !m.Ready:
		r.note("the member's first start was cut off; the next one begins anew")
		return nil
	}
	r.Started = true
	n.c.StorageEngine = m.Engine
	if err := k.openStorage(); err != nil {
		return err
	}
	return n.matchUp()
}

// openStorage looks at the engine also where the log is damaged, so that both are
// told at once.
func (k *checker) openStorage() error {
	n := k.n
	failed := n.openLog()
	engines, e, err := replica.OpenEngines(n.dir.fs, n.path(engineDir), k.opener())
	if failed = errors.Join(failed, err); failed != nil {
		if e != nil {
			failed = errors.Join(failed, e.Close())
		}
		return failed
	}
	n.engines = engines
	if torn := n.log.TornTail(); torn.File != "" {
		k.report.note("%s: offset %d: the last append was not finished; nobody was told that it was, and a start cuts it", torn.File, torn.Offset)
	}
	o := n.stateOptions(e)
	if n.machine, err = state.Open(o); err != nil {
		return errors.Join(fmt.Errorf("open the state: %w", err), e.Close())
	}
	return k.checkImage()
}

// checkImage compares what a start may use instead of all rows with the rows.
func (k *checker) checkImage() error {
	image, err := k.n.engines.OpenImage()
	if err != nil || image == nil {
		return err
	}
	defer func() { _ = image.Close() }() // only read from
	switch err := k.n.machine.CheckImage(image); {
	case errors.Is(err, mvcc.ErrNoImage):
	case errors.Is(err, mvcc.ErrImageDamaged):
		k.report.note("%s: the image of the index is damaged; the next start builds the index from all rows: %v", k.n.path(engineDir), err)
	case err != nil:
		return fmt.Errorf("%s: %w", k.n.path(engineDir), err)
	}
	return nil
}

func (k *checker) opener() engine.Opener {
	if c := k.n.c; c.StorageEngine == EngineRocksDB {
		return rocksdb.Inspector{Opener: rocksdb.Opener{Options: c.RocksDB, Logger: c.Logger}, Scratch: k.scratch}
	}
	return memory.Opener{FS: k.n.dir.fs}
}

// replay applies what a start would apply without asking anybody: what is known
// to be committed, and for a member that is alone all that it has.
func (k *checker) replay() error {
	n, r := k.n, k.report
	if err := replica.CheckLog(n.log, group); err != nil {
		return err
	}
	g := n.log.Group(group)
	r.FirstIndex, r.LastIndex, r.CommitIndex, r.Segments = g.FirstIndex(), g.LastIndex(), g.HardState().GetCommit(), n.log.Segments()
	r.FlushedIndex, _ = n.machine.Applied()
	last := r.CommitIndex
	if len(n.machine.ConfState().Voters) == 1 {
		last = r.LastIndex
	}
	return replica.Replay(n.log, group, n.machine, last)
}

// readState reads every row that a client can ask for.
func (k *checker) readState(rev int64) (err error) {
	m, r := k.n.machine, k.report
	kv := m.KV()
	r.AppliedIndex, r.AppliedTerm = m.Applied()
	r.Revision, r.CompactRevision = kv.Rev(), kv.CompactRev()
	r.Members, r.Leases = len(m.Members()), m.Leases().Len()
	r.AuthEnabled, r.Users, r.Roles = m.Auth().Enabled(), len(m.Auth().UserNames()), len(m.Auth().RoleNames())
	_, self, err := k.n.dir.marker.ids()
	if err != nil {
		return err
	}
	if _, ok := m.Member(self); !ok && r.AppliedIndex > 0 {
		r.note("the cluster does not have this member any more, as far as it knows")
	}
	if r.Keys, err = readPairs(kv); err != nil {
		return fmt.Errorf("read the keys: %w", err)
	}
	if err := readHistory(kv); err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	r.HashRevision = r.Revision
	if rev != 0 {
		r.HashRevision = rev
	}
	r.Hash, _, _, err = kv.HashKV(rev)
	if errors.Is(err, mvcc.ErrCompacted) || errors.Is(err, mvcc.ErrFutureRev) {
		return exitf(ExitUsage, "revision %d cannot be hashed, this member has %d to %d", rev, max(r.CompactRevision, 1), r.Revision)
	}
	return err
}

// checkPairs and checkBytes bound what is read at once.
const (
	checkPairs = 1000
	checkBytes = 4 << 20
)

// readPairs reads all pairs of the newest revision and counts them.
func readPairs(kv *mvcc.Store) (n int64, err error) {
	for from := []byte{0}; ; {
		found, err := kv.Range(from, []byte{0}, mvcc.RangeOptions{Limit: checkPairs})
		if err != nil {
			return n, err
		}
		read := int64(len(found.KVs))
		n += read
		if found.Count <= read {
			return n, nil
		}
		from = append(bytes.Clone(found.KVs[read-1].Key), 0)
	}
}

// readHistory reads all revisions that are not compacted.
func readHistory(kv *mvcc.Store) (err error) {
	for from := max(kv.CompactRev(), 1); from <= kv.Rev(); {
		from, err = kv.History(from, kv.Rev(), checkBytes, true, func(int64, []*mvccpb.Event) error { return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

// withPlaces says where damage lies in the data dir: RocksDB names the links to
// its files.
func (k *checker) withPlaces(err error) error {
	var exit *ExitError
	text := strings.ReplaceAll(err.Error(), k.scratch, k.n.path(engineDir))
	if !errors.As(err, &exit) || text == err.Error() {
		return err
	}
	return &ExitError{Code: exit.Code, Err: errors.New(text)}
}

package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"
)

const (
	group     = raftlog.GroupID(1)
	clusterID = 0xc1
	dataDir   = "data"
	logDir    = "data/log"
	engineDir = "data/engine"
	marker    = "marker"
)

// member is one member with its disk, whether its process runs or not.
type member struct {
	w    *world
	id   uint64
	disk *memdisk.FS
	// first are the first members of the cluster; nil for one that joins later.
	first []state.Member
	// process is nil while the member is down.
	process *process
	// gone: the member was removed and is not started again; lost: its machine
	// is gone with the disk, and it has to be replaced.
	gone, lost bool
	clock      clock
	// pausedUntil is when the process goes on that was stopped by a signal.
	pausedUntil int64
	// room is how many bytes can be written before the disk is full. The disk is
	// slow, and takes nothing at all, until then.
	room                    int
	slowUntil, stalledUntil int64
	// lastWrite is the newest one to the log, lastSynced the newest that a sync
	// was called for. rotten: a bit of the disk may read inverted.
	lastWrite, lastSynced extent
	rotten                bool

	// What has to be there at the next start: the log's hard state and the
	// applied index that are surely durable.
	hard         raftpb.HardState
	flushedIndex uint64
}

func (w *world) member(id uint64) *member {
	for _, m := range w.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

// newMember makes a member that was never started.
func (w *world) newMember(id uint64, first []state.Member) *member {
	m := &member{w: w, id: id, first: first, room: noLimit, disk: memdisk.New(w.rng.Uint64()), clock: w.newClock()}
	if err := errors.Join(m.disk.MkdirAll(dataDir), m.disk.SyncDir(".")); err != nil {
		w.failf("make a data dir: %v", err)
	}
	w.members = append(w.members, m)
	return m
}

// begin makes the cluster and starts it.
func (w *world) begin() {
	w.net.cut = map[link]bool{}
	w.truth.init()
	var first []state.Member
	for id := uint64(1); id <= uint64(w.p.voters); id++ {
		first = append(first, newcomer(id))
	}
	for _, s := range first {
		w.newMember(s.ID, first)
	}
	for _, m := range w.members {
		w.after(w.between(0, 300*millisecond), m.start)
	}
	w.beginClients()
	w.beginLeases()
	w.beginWatchers()
	w.beginNemesis()
}

func newcomer(id uint64) state.Member {
	return state.Member{ID: id, PeerURLs: []string{fmt.Sprintf("http://m%d", id)}}
}

// start runs the member's process, as node does.
func (m *member) start() {
	if m.process != nil || m.gone {
		return
	}
	w := m.w
	if wait := m.stalledUntil - w.now; wait > 0 && !w.calm {
		w.after(wait, m.start)
		return
	}
	r := &process{w: w, m: m, accepted: map[uint64]*imported{}, sending: map[uint64]bool{}}
	r.fs = &processFS{FS: m.disk, r: r, w: w, m: m, killIn: -1}
	if !w.calm && w.nemesis.killAtStart {
		w.nemesis.killAtStart = false
		r.fs.killIn = w.rng.IntN(20)
	}
	m.process = r
	r.guard(func() {
		if err := r.open(); err != nil {
			r.fail(fmt.Errorf("start: %w", err))
			return
		}
		w.tracef("%d starts, run %d, applied %d, log %d–%d", m.id, r.incarnation, r.appliedIndex, r.group().FirstIndex(), r.group().LastIndex())
		r.begin()
	})
}

// open takes node's and host's place: it recovers what is stored or makes the
// first state.
func (r *process) open() error {
	ready, starts, err := r.readMarker()
	if err != nil {
		return err
	}
	if !ready {
		if err := errors.Join(r.fs.RemoveAll(logDir), r.fs.RemoveAll(engineDir), r.fs.SyncDir(dataDir)); err != nil {
			return err
		}
	}
	if err := r.openStorage(); err != nil {
		return err
	}
	if !ready && r.m.first != nil {
		if err := r.bootstrap(); err != nil {
			return err
		}
	}
	r.checkRecovered()
	if err := replica.Recover(r.log, group, r.machine.Load()); err != nil {
		return err
	}
	// Recover may make the reset of an adopted snapshot good, which the engine
	// has to hold from then on.
	r.m.flushedIndex = max(r.m.flushedIndex, r.group().FirstIndex()-1)
	starts++
	if err := r.writeMarker(starts); err != nil {
		return err
	}
	r.incarnation = starts
	if r.w.planted == plantSameIdentity {
		r.incarnation = 1
	}
	return r.openReplica()
}

func (r *process) readMarker() (ready bool, starts uint64, err error) {
	b, err := disk.ReadFile(r.fs, dataDir+"/"+marker, 64)
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, nil
	}
	if err == nil {
		_, err = fmt.Sscanf(string(b), "ready %d", &starts)
	}
	return err == nil, starts, err
}

func (r *process) writeMarker(starts uint64) error {
	return disk.WriteFile(r.fs, dataDir, marker, fmt.Appendf(nil, "ready %d\n", starts))
}

func (r *process) openStorage() (err error) {
	w := r.w
	r.forge()
	r.log, err = raftlog.Open(raftlog.Options{
		FS: r.fs, Dir: logDir, SegmentSizeBytes: w.p.segmentBytes, CacheBytes: w.p.cacheBytes,
		Rand: salt{w},
	})
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	var e engine.Engine
	if r.engines, e, err = replica.OpenEngines(r.fs, engineDir, memory.Opener{FS: r.fs}); err != nil {
		return err
	}
	r.forgeImage(e)
	machine, err := r.engines.OpenState(r.stateOptions(e))
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	r.machine.Store(machine)
	return r.checkImaged(e)
}

func (r *process) stateOptions(e engine.Engine) state.Options {
	return state.Options{Engine: &checkedEngine{Engine: e, r: r}, Group: engine.GroupID(group)}
}

// checkImaged compares an index that came from an image with one from the rows.
func (r *process) checkImaged(e engine.Engine) error {
	machine := r.machine.Load()
	if machine.Imaged() == 0 {
		return nil
	}
	r.w.stats[imagesCount]++
	kv, err := mvcc.Open(e, engine.GroupID(group))
	if err != nil {
		return err
	}
	if err := machine.KV().CompareIndex(kv); err != nil {
		r.w.failf("member %d starts with an image that is not of its rows: %v", r.m.id, err)
	}
	return nil
}

// salt gives the log of a member its randomness.
type salt struct{ w *world }

func (s salt) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.w.rng.Uint32())
	}
	return len(b), nil
}

func (r *process) bootstrap() error {
	m := r.machine.Load()
	if err := m.Bootstrap(clusterID, r.m.first); err != nil {
		return err
	}
	index, term := m.Applied()
	r.m.flushedIndex = index
	return r.log.Append([]raftlog.Write{{
		Group:     group,
		Reset:     &raftlog.Position{Index: index, Term: term},
		HardState: &raftpb.HardState{Term: &term, Commit: &index},
	}})
}

func (r *process) openReplica() (err error) {
	w, m := r.w, r.machine.Load()
	r.hub = watch.NewHub(r.source(m), watch.Options{OutboxEvents: w.p.outboxEvents, ReplayBytes: w.p.replayBytes})
	r.replica, err = replica.New(replica.Config{
		ID: r.m.id, ClusterID: clusterID, Group: group, Log: r.group(), Machine: &r.machine,
		Incarnation: r.incarnation, ElectionTicks: electionTicks, HeartbeatTicks: 1,
		PreVote: w.p.preVote, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	// Now and then a watcher comes just after the hub was asked.
	r.applier = r.replica.Applier(r.publish, func() bool { return r.hub.WantsPrevs() && !w.chance(0.1) })
	r.appliedIndex, _ = m.Applied()
	r.flushedIndex = r.appliedIndex
	return nil
}

// checkRecovered compares what a start found with what was surely durable.
func (r *process) checkRecovered() {
	w, m := r.w, r.m
	applied, _ := r.machine.Load().Applied()
	if applied < m.flushedIndex {
		w.failf("member %d starts at applied index %d, but %d was made durable", m.id, applied, m.flushedIndex)
	}
	hard := r.group().HardState()
	switch {
	case hard.GetTerm() < m.hard.GetTerm():
		w.failf("member %d starts in term %d, but %d was made durable", m.id, hard.GetTerm(), m.hard.GetTerm())
	case hard.GetTerm() == m.hard.GetTerm() && m.hard.GetVote() != 0 && hard.GetVote() != m.hard.GetVote():
		w.failf("member %d starts with the vote %d in term %d, but %d was made durable", m.id, hard.GetVote(), hard.GetTerm(), m.hard.GetVote())
	}
	if hard != nil {
		m.hard.Term, m.hard.Vote = hard.Term, hard.Vote
	}
}

// fail ends the process for an error. One that the simulator did not make is a
// defect of what is tested.
func (r *process) fail(err error) {
	if r.m.process != r {
		return
	}
	w := r.w
	if !injected(err) && r.fs.fault == nil && !r.foundRot(err) {
		w.failf("member %d stops: %v", r.m.id, err)
	}
	w.tracef("%d stops: %v", r.m.id, err)
	powerCut := errors.Is(err, memdisk.ErrCrashed) || errors.Is(r.fs.fault, memdisk.ErrCrashed) || w.chance(0.3)
	r.crash(powerCut)
}

// crash ends the process as it stands.
func (r *process) crash(powerCut bool) {
	w, m := r.w, r.m
	w.tracef("%d crashes, power cut %v", m.id, powerCut)
	w.stats[crashesCount]++
	r.end()
	if powerCut {
		m.disk.Crash()
	} else {
		m.disk.CrashAfter(-1)
	}
	m.disk.FailSync(-1)
	m.restartLater()
}

// end forgets the process: nothing that it still had to do happens.
func (r *process) end() {
	r.m.process, r.m.pausedUntil = nil, 0
	r.fs.dead = errKilled
	r.endTasks()
	if r.hub != nil {
		r.hub.Close()
	}
	r.abandonTransfers()
	r.w.lostProcess(r)
	r.w.hungUp(r.m.id)
}

// stop ends the process in order, as node's Stop does, when the disk has nothing
// under way.
func (r *process) stop() {
	if len(r.tasks) > 0 {
		r.after(millisecond, r.stop)
		return
	}
	r.w.tracef("%d is stopped", r.m.id)
	m := r.machine.Load()
	err := replica.Rest(r.log, group, r.engines, m, r.flushedIndex, r.restTo)
	err = errors.Join(err, m.Close(), r.log.Close())
	if err != nil {
		r.fail(fmt.Errorf("stop: %w", err))
		return
	}
	r.end()
	r.m.restartLater()
}

// restTo is host's.
func (r *process) restTo(durable uint64) uint64 {
	r.m.flushedIndex = max(r.m.flushedIndex, durable)
	if len(r.machine.Load().Members()) == 1 {
		return durable
	}
	return r.compactTo(durable)
}

func (r *process) removedByPeers() {
	r.w.tracef("%d hears that it was removed", r.m.id)
	r.m.gone = true
	r.end()
}

func (m *member) restartLater() {
	delay := m.w.about(700 * millisecond)
	if m.w.calm {
		delay = 0
	}
	m.w.after(delay+millisecond, m.start)
}

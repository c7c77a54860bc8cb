package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/host"
	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/peer"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"
)

// group is the one keyspace that a process hosts today.
const group = 1

// handOverTimeout bounds the hand-over of leadership at a stop, and
// drainTimeout the requests that are still being answered.
const (
	handOverTimeout = 2 * time.Second
	// passOnHeartbeats is how long a member that led goes on as a follower: what
	// others had sent to it as the leader is passed on to the new one, and not
	// lost with the connection.
	passOnHeartbeats = 3
	drainTimeout     = 2 * time.Second
)

// Node is a running member.
type Node struct {
	c       *Config
	metrics *metrics
	dir     *dataDir
	log     *raftlog.Log
	engines *replica.Engines
	machine *state.Machine // as opened at the start; host has the one of the moment
	hub     *watch.Hub
	host    *host.Host
	peers   *peer.Transport
	serve   *servers

	// background are publish and compaction; stopped by cancel.
	background sync.WaitGroup
	cancel     context.CancelFunc
	removed    chan struct{}
	ready      chan struct{}
	stop       sync.Once
	stopErr    error
}

// Start brings a member up; it answers clients when Start returns. The context
// bounds the start only.
func Start(ctx context.Context, c Config) (*Node, error) {
	if err := c.Validate(); err != nil {
		return nil, &ExitError{Code: ExitUsage, Err: err}
	}
	t, err := newTLS(&c)
	if err != nil {
		return nil, &ExitError{Code: ExitUsage, Err: err}
	}
	c.describe()
	n := &Node{c: &c, metrics: newMetrics(), removed: make(chan struct{}), ready: make(chan struct{})}
	if err := n.start(ctx, t); err != nil {
		return nil, errors.Join(withCode(err), n.Stop(ctx))
	}
	return n, nil
}

func (n *Node) start(ctx context.Context, t tlsConfigs) (err error) {
	// Listen first: an address in use is told before anything is written.
	if n.serve, err = listen(n.c); err != nil {
		return err
	}
	if n.dir, err = openDataDir(disk.OS(), n.c.DataDir); err != nil {
		return err
	}
	if err := n.recover(ctx, t); err != nil {
		return err
	}
	if err := n.startHost(ctx, t); err != nil {
		return err
	}
	if err := n.serve.start(n, t); err != nil {
		return err
	}
	background, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.background.Add(4)
	go func() { defer n.background.Done(); n.publish(background) }()
	go func() { defer n.background.Done(); n.runCompaction(background) }()
	go func() { defer n.background.Done(); n.runVersion(background) }()
	go func() { defer n.background.Done(); n.runCorruption(background) }()
	return nil
}

// withCode gives errors about stored bytes their exit code.
func withCode(err error) error {
	var exit *ExitError
	switch {
	case errors.As(err, &exit):
		return err
	case errors.Is(err, engine.ErrCorrupt), errors.Is(err, raftlog.ErrCorrupt), errors.Is(err, replica.ErrLogBroken):
		return exitf(ExitCorrupt, "%w; this member cannot start from its data: replace it", err)
	case noRoom(err):
		return &ExitError{Code: ExitFull, Err: err}
	}
	return err
}

// noRoom says that the volume is full. RocksDB tells that by its text only.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || err != nil && strings.Contains(strings.ToLower(err.Error()), "no space left on device")
}

// recover opens what is stored, or makes the first state.
func (n *Node) recover(ctx context.Context, t tlsConfigs) error {
	if err := n.dir.clearTmp(); err != nil {
		return err
	}
	ready := n.dir.marker != nil && n.dir.marker.Ready
	if m := n.dir.marker; m != nil && m.Restoring {
		return exitf(ExitCorrupt, "a restore into the data dir %s was cut off; run it again", n.c.DataDir)
	} else if !ready {
		if err := n.firstStart(ctx, t.peerClient); err != nil {
			return err
		}
	} else {
		if err := n.dir.checkMarker(n.c); err != nil {
			return err
		}
		if err := n.openStorage(); err != nil {
			return err
		}
	}
	if err := n.matchUp(); err != nil {
		return err
	}
	m := *n.dir.marker
	if ready && n.c.forces(m) {
		if err := n.forceNewCluster(); err != nil {
			return err
		}
		m.Forced = n.c.ForceNewClusterOnce
	}
	if err := n.defragment(); err != nil {
		return err
	}
	m.Starts++
	return n.dir.writeMarker(m)
}

// matchUp makes sure that marker, log and state belong together.
func (n *Node) matchUp() error {
	m := n.dir.marker
	cluster, _, err := m.ids()
	if err != nil {
		return exitf(ExitCorrupt, "the marker's IDs are not readable: %w", err)
	}
	if got := n.machine.ClusterID(); got != 0 && got != cluster {
		return exitf(ExitForeign, "the data dir %s is marked as cluster %s but its engine holds cluster %x", n.c.DataDir, m.ClusterID, got)
	}
	return replica.Recover(n.log, group, n.machine)
}

// openStorage opens log, engine and state.
func (n *Node) openStorage() error {
	e, err := n.openEngine()
	if err != nil {
		return err
	}
	return n.openMachine(e, nil)
}

// openEngine opens the log and the engine that openMachine then takes.
func (n *Node) openEngine() (e engine.Engine, err error) {
	if err := n.openLog(); err != nil {
		return nil, err
	}
	n.engines, e, err = replica.OpenEngines(n.dir.fs, n.path(engineDir), n.opener())
	return e, err
}

func (n *Node) openLog() (err error) {
	n.log, err = raftlog.Open(raftlog.Options{FS: n.dir.fs, Dir: n.path(logDir), Logger: n.c.Logger, Observer: n.metrics.disk})
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	return nil
}

// openMachine opens the state of an engine, whose keys may be known already.
func (n *Node) openMachine(e engine.Engine, keys *mvcc.Store) (err error) {
	o := n.stateOptions(e)
	o.Keys = keys
	n.machine, err = n.engines.OpenState(o)
	if err != nil {
		return errors.Join(fmt.Errorf("open the state: %w", err), e.Close())
	}
	return nil
}

func (n *Node) stateOptions(e engine.Engine) state.Options {
	return state.Options{Engine: e, Group: group, Tokens: n.tokens(), Leases: n.metrics.lease, OnImage: n.noteImage}
}

// noteImage tells why a start takes longer than it might.
func (n *Node) noteImage(err error) {
	switch {
	case err == nil:
		n.c.Logger.Info("the index of the keys was read from its image")
	case errors.Is(err, mvcc.ErrNoImage):
		n.c.Logger.Info("the index of the keys is built from all rows", "reason", err)
	default:
		n.c.Logger.Warn("the index of the keys is built from all rows, its image cannot be read", "error", err)
	}
}

func (n *Node) opener() engine.Opener {
	return engine.Guard(engine.Observe(n.c.engineOpener(n.dir.fs), n.metrics.engine), n.dataDamaged)
}

func (c *Config) engineOpener(f disk.FS) engine.Opener {
	if c.StorageEngine == EngineRocksDB {
		return rocksdb.Opener{Options: c.RocksDB, Logger: c.Logger}
	}
	return memory.Opener{FS: f, Logger: c.Logger}
}

// dataDamaged stops a member that runs; one that starts gets the error itself.
func (n *Node) dataDamaged(err error) {
	if n.host != nil {
		n.host.Fail(err)
	}
}

func (n *Node) startHost(ctx context.Context, t tlsConfigs) error {
	cluster, member, err := n.dir.marker.ids()
	if err != nil {
		return err
	}
	var contacts map[uint64][]string
	if index, _ := n.machine.Applied(); index == 0 {
		if contacts, err = n.contacts(ctx, t.peerClient); err != nil {
			return err
		}
	}
	heartbeat := time.Duration(n.c.HeartbeatMillis) * time.Millisecond
	election := time.Duration(n.c.ElectionMillis) * time.Millisecond
	n.hub = watch.NewHub(n.machine.KV(), n.c.watchOptions())
	n.host, err = host.New(host.Config{
		ID: member, ClusterID: cluster, Group: group, Incarnation: n.dir.marker.Starts,
		Log: n.log, Engines: n.engines, Machine: n.machine, Hub: n.hub, Logger: n.c.Logger, Observer: n.metrics.work,
		TickInterval: heartbeat, ElectionTicks: int(election / heartbeat),
		PreVote: n.c.PreVote, InitialElectionTickAdvance: n.c.ElectionTickAdvance,
		SnapshotEntries: n.c.SnapshotCount, CatchUpEntries: n.c.SnapshotCatchUp,
		StrictReconfigCheck: n.c.StrictReconfigCheck, MaxLearners: n.c.maxLearners(),
		WarnApplyAfter: n.c.WarnApplyAfter, MaxPendingBytes: n.c.pendingBytes(),
		// etcd's: five seconds and two elections.
		RequestTimeout: 5*time.Second + 2*election,
		OnRemoved:      func() { close(n.removed) },
	})
	if err != nil {
		return err
	}
	n.metrics.peers.self = strconv.FormatUint(member, 16)
	n.metrics.registry.MustRegister(append(collectHost(n.host), featureMetrics(n.c.Features))...)
	n.peers = peer.New(peer.Config{
		ID: member, ClusterID: cluster, Group: group, TLS: t.peerClient, Handler: n.host, Logger: n.c.Logger, Observer: n.metrics.peers,
	})
	if err := n.checkInitial(ctx); err != nil {
		return err
	}
	n.host.Start(n.peers, contacts)
	return nil
}

// Ready is closed when the member has told the cluster its name: it has a
// leader, and clients are served in full.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Wait returns when the member cannot go on: nil never, the cause otherwise.
// The context ends the waiting with its error.
func (n *Node) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-n.serve.failed:
		return fmt.Errorf("serve: %w", err)
	case <-n.host.Done():
		return withCode(n.host.Err())
	case <-n.removed:
		return exitf(ExitRemoved, "this member was removed from the cluster; its data dir is of no more use")
	}
}

// Stop hands leadership over, answers what is under way and closes everything.
// It returns what went wrong on the way; calling it again returns the same.
func (n *Node) Stop(ctx context.Context) error {
	n.stop.Do(func() { n.stopErr = n.shutDown(ctx) })
	return n.stopErr
}

func (n *Node) shutDown(ctx context.Context) error {
	if n.cancel != nil {
		n.cancel()
	}
	var passedOn <-chan time.Time
	if n.host != nil && n.host.Err() == nil && n.host.Status().IsLeader() {
		ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
		if err := n.host.HandOver(ctx); err != nil {
			n.c.Logger.Warn("leadership not handed over", "error", err)
		}
		cancel()
		passedOn = time.After(passOnHeartbeats * time.Duration(n.c.HeartbeatMillis) * time.Millisecond)
	}
	if n.serve != nil {
		n.serve.drain(drainTimeout)
	}
	if passedOn != nil {
		<-passedOn
	}
	n.background.Wait()
	if n.serve != nil {
		n.serve.close()
	}
	if n.peers != nil {
		n.peers.Close()
	}
	if n.hub != nil {
		n.hub.Close()
	}
	if n.host != nil {
		n.host.Close()
		n.host.Rest()
	}
	return n.closeStorage()
}

func (n *Node) closeStorage() error {
	var errs []error
	m := n.machine
	if n.host != nil {
		m = n.host.Machine()
	}
	if m != nil {
		errs = append(errs, m.Close())
	}
	if n.log != nil {
		errs = append(errs, n.log.Close())
	}
	if n.dir != nil {
		errs = append(errs, n.dir.close())
	}
	return errors.Join(errs...)
}

package host

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"
)

// TestMain also looks for goroutines that nobody ends.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nobody is the transport of a member that is alone.
type nobody struct{ sent atomic.Int64 }

func (*nobody) SetPeers(map[uint64][]string) {}

func (n *nobody) Send(m []*raftpb.Message) { n.sent.Add(int64(len(m))) }

func (*nobody) SendSnapshot(context.Context, *raftpb.Message, func(io.Writer) error) error {
	return replica.ErrStopped
}

func (*nobody) Call(context.Context, uint64, string, []byte) ([]byte, error) {
	return nil, replica.ErrStopped
}

func (*nobody) Connected(uint64) time.Time { return time.Time{} }

// newHost makes a host of these members, of which 1 is this one, on a disk.
func newHost(t *testing.T, d *memdisk.FS, incarnation uint64, members ...uint64) *Host {
	t.Helper()
	l, err := raftlog.Open(raftlog.Options{FS: d, Dir: "/log", SegmentSizeBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // a failed log says so
	engines, e, err := replica.OpenEngines(d, "/engine", memory.Opener{FS: d})
	if err != nil {
		t.Fatal(err)
	}
	m, err := state.Open(state.Options{Engine: e, Group: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() }) // nothing is to be kept
	if index, _ := m.Applied(); index == 0 {
		var first []state.Member
		for _, id := range members {
			first = append(first, state.Member{ID: id, PeerURLs: []string{"http://h:1"}})
		}
		start := &raftlog.Position{Index: 1, Term: 1}
		err := errors.Join(m.Bootstrap(7, first), l.Append([]raftlog.Write{{
			Group: 1, Reset: start, HardState: &raftpb.HardState{Term: &start.Term, Commit: &start.Index},
		}}))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := replica.Recover(l, 1, m); err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{
		ID: 1, ClusterID: 7, Group: 1, Incarnation: incarnation, Log: l, Engines: engines, Machine: m,
		Hub: watch.NewHub(m.KV(), watch.Options{}), Logger: slog.New(slog.DiscardHandler),
		TickInterval: 5 * time.Millisecond, ElectionTicks: 10, SnapshotEntries: 5, CatchUpEntries: 2,
		RequestTimeout: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func put(t *testing.T, key string) state.Command {
	t.Helper()
	body, err := proto.Marshal(&pb.PutRequest{Key: []byte(key), Value: []byte("v")})
	if err != nil {
		t.Fatal(err)
	}
	return state.Command{Kind: state.KindPut, Body: body}
}

// A host that works, flushes and shortens its log ends whole when it is closed,
// and another goes on from what it left.
func TestCloseEndsAll(t *testing.T) {
	d := memdisk.New(1)
	for run := range uint64(3) {
		h := newHost(t, d, run+1, 1)
		h.Start(&nobody{}, nil)
		for range 20 {
			if r, _, err := h.Propose(t.Context(), put(t, "k")); err != nil || r.Err != nil {
				t.Fatal(err, r.Err)
			}
		}
		if err := h.ReadBarrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if rev := h.Machine().KV().Rev(); rev != int64(run+1)*20+1 {
			t.Fatalf("run %d ends at revision %d", run, rev)
		}
		h.Close()
		if err := h.Err(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.Propose(t.Context(), put(t, "k")); err == nil {
			t.Error("a closed host takes proposals")
		}
		if err := h.c.Log.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever waits for a leader that never comes is told when the host closes.
func TestCloseEndsWaiters(t *testing.T) {
	p := &nobody{}
	h := newHost(t, memdisk.New(1), 1, 1, 2, 3)
	h.Start(p, nil)
	failed := make(chan error, 2)
	go func() {
		_, _, err := h.Propose(t.Context(), put(t, "k"))
		failed <- err
	}()
	go func() { failed <- h.ReadBarrier(t.Context()) }()
	for p.sent.Load() == 0 { // until it asks for votes
		select {
		case <-t.Context().Done():
			t.Fatal("it never asks for votes")
		case <-time.After(time.Millisecond):
		}
	}
	h.Close()
	for range 2 {
		if err := <-failed; err == nil {
			t.Error("a request succeeds without a quorum")
		}
	}
}

// A log that fails stops the host, which says why.
func TestFailedLogStopsAll(t *testing.T) {
	d := memdisk.New(1)
	h := newHost(t, d, 1, 1)
	h.Start(&nobody{}, nil)
	if _, _, err := h.Propose(t.Context(), put(t, "k")); err != nil {
		t.Fatal(err)
	}
	d.FailSync(0)
	if _, _, err := h.Propose(t.Context(), put(t, "k")); err == nil {
		t.Error("a put is acknowledged that was not synced")
	}
	<-h.Done()
	if h.Err() == nil {
		t.Error("the host does not say what failed")
	}
	h.Close()
}

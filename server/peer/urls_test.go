package peer

import (
	"net"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// alsoAt serves a side at another address, too, and gives its URL.
func (s *side) alsoAt(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.server.Serve(l) }()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String()
}

// A message that was taken for a peer arrives, also when the peer gets another
// URL at that moment: a forwarded proposal is sent once.
func TestAnotherURLLosesNothing(t *testing.T) {
	a, b := newSide(t, 1, 7), newSide(t, 2, 7)
	urls := []string{b.alsoAt(t), b.url}
	a.knows(b)
	waitFor(t, "the connection", func() bool { return !a.Connected(2).IsZero() })
	sent := map[uint64]bool{}
	for i := range uint64(600) {
		if i%100 == 50 {
			a.SetPeers(map[uint64][]string{2: {urls[i/100%2]}})
		}
		sent[i] = true
		a.Send([]*raftpb.Message{heartbeat(1, 2, i)})
		if i%10 == 0 {
			time.Sleep(time.Millisecond) // so that both connections carry some
		}
	}
	for len(sent) > 0 {
		select {
		case m := <-b.received:
			delete(sent, m.GetCommit())
		case <-time.After(10 * time.Second):
			t.Fatalf("%d messages did not come", len(sent))
		}
	}
	waitFor(t, "the end of the connections to old URLs", func() bool {
		b.Transport.mu.Lock()
		defer b.Transport.mu.Unlock()
		return len(b.accepted) == 1
	})
}

// URLs that lead nowhere show as a lost connection, not later than an election
// would notice.
func TestAnotherURLThatLeadsNowhere(t *testing.T) {
	a, b := newSide(t, 1, 7), newSide(t, 2, 7)
	a.knows(b)
	waitFor(t, "the connection", func() bool { return !a.Connected(2).IsZero() })
	began := time.Now()
	a.SetPeers(map[uint64][]string{2: {"http://127.0.0.1:1"}})
	if a.Connected(2).IsZero() {
		t.Error("the connection was given up at once")
	}
	waitFor(t, "the loss", func() bool { return a.Connected(2).IsZero() })
	if took := time.Since(began); took > 4*handOverTimeout {
		t.Errorf("it took %s", took)
	}
	a.knows(b)
	waitFor(t, "the way back", func() bool { return !a.Connected(2).IsZero() })
}

// What raft would not send anew comes back when there is no connection for it.
func TestUnsentProposalsComeBack(t *testing.T) {
	a := newSide(t, 1, 7)
	a.SetPeers(map[uint64][]string{2: {"http://127.0.0.1:1"}})
	p := &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2)}
	a.Send([]*raftpb.Message{heartbeat(1, 2, 1), p})
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.unsent) != 1 || a.unsent[0] != p {
		t.Errorf("back came %v", a.unsent)
	}
}

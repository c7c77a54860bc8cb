package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// side is one member's transport behind a real listener.
type side struct {
	*Transport
	url      string
	server   *http.Server
	received chan *raftpb.Message

	mu             sync.Mutex
	snapshot       string
	removed        map[uint64]bool
	removedByPeers bool
	unsent         []*raftpb.Message
	hungUp         []uint64
}

func (s *side) Receive(m *raftpb.Message) { s.received <- m }

func (s *side) ReceiveSnapshot(_ context.Context, _ *raftpb.Message, r io.Reader) error {
	b, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshot = string(b)
	return err
}

func (s *side) Call(_ context.Context, kind string, body []byte) ([]byte, error) {
	if kind == "bad/kind" {
		return nil, errors.New("refused")
	}
	return fmt.Appendf(nil, "%s(%s)", kind, body), nil
}

func (s *side) Unreachable(uint64) {}

func (s *side) HungUp(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hungUp = append(s.hungUp, id)
}

func (s *side) Unsent(m *raftpb.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsent = append(s.unsent, m)
}

func (s *side) Refuses(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removed[id]
}

func (s *side) RemovedByPeers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removedByPeers = true
}

func newSide(t *testing.T, id, cluster uint64) *side {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newSideAt(t, id, cluster, l, "http://"+l.Addr().String())
}

func newSideAt(t *testing.T, id, cluster uint64, l net.Listener, url string) *side {
	t.Helper()
	s := &side{url: url, received: make(chan *raftpb.Message, 1000), removed: map[uint64]bool{}}
	s.Transport = New(Config{ID: id, ClusterID: cluster, Group: 1, Handler: s, Logger: slog.New(slog.DiscardHandler)})
	mux := http.NewServeMux()
	s.Routes(mux)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.server.Serve(l) }()
	t.Cleanup(func() {
		_ = s.server.Close()
		<-done
		s.Close()
	})
	return s
}

func (s *side) knows(others ...*side) {
	urls := map[uint64][]string{}
	for _, o := range others {
		urls[o.c.ID] = []string{o.url}
	}
	s.SetPeers(urls)
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

func heartbeat(from, to, commit uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &from, To: &to, Commit: &commit}
}

// Peers on Unix sockets do what all others do, whether the socket's path is
// absolute or, as with etcd, what stands where a host would.
func TestPeersOnSockets(t *testing.T) {
	t.Chdir(t.TempDir())
	a := newSide(t, 1, 7)
	for id, url := range map[uint64]string{2: "unix://" + filepath.Join(t.TempDir(), "b.sock"), 3: "unix://localhost:1"} {
		l, err := net.Listen("unix", strings.TrimPrefix(url, "unix://"))
		if err != nil {
			t.Fatal(err)
		}
		b := newSideAt(t, id, 7, l, url)
		a.knows(b)
		waitFor(t, "the connection", func() bool { return !a.Connected(id).IsZero() })
		a.Send([]*raftpb.Message{heartbeat(1, id, 5)})
		select {
		case <-b.received:
		case <-time.After(10 * time.Second):
			t.Fatal("a message did not come")
		}
		if got, err := a.Transport.Call(t.Context(), id, "some/kind", []byte("x")); err != nil || string(got) != "some/kind(x)" {
			t.Errorf("call: %q, %v", got, err)
		}
		if err := a.SendSnapshot(t.Context(), &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: proto.Uint64(1), To: proto.Uint64(id)}, func(w io.Writer) error { _, err := io.WriteString(w, "state"); return err }); err != nil {
			t.Errorf("snapshot: %v", err)
		}
	}
}

func TestMessagesArriveInOrder(t *testing.T) {
	a, b := newSide(t, 1, 7), newSide(t, 2, 7)
	a.knows(b)
	waitFor(t, "the connection", func() bool { return !a.Connected(2).IsZero() })
	for i := range uint64(500) {
		a.Send([]*raftpb.Message{heartbeat(1, 2, i)})
	}
	for i := range uint64(500) {
		select {
		case m := <-b.received:
			if m.GetCommit() != i {
				t.Fatalf("message %d came where %d was due", m.GetCommit(), i)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("message %d did not come", i)
		}
	}
}

func TestSnapshotAndCall(t *testing.T) {
	a, b := newSide(t, 1, 7), newSide(t, 2, 7)
	a.knows(b)
	m := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: proto.Uint64(1), To: proto.Uint64(2)}
	content := strings.Repeat("snapshot", 100_000)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := a.SendSnapshot(ctx, m, func(w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	})
	if err != nil || b.snapshot != content {
		t.Fatalf("%d bytes came, %v", len(b.snapshot), err)
	}
	// A sender that fails halfway must not look like one that ended.
	if err := a.SendSnapshot(ctx, m, func(io.Writer) error { return errors.New("disk gone") }); err == nil {
		t.Fatal("a snapshot that failed counts as sent")
	}
	if got, err := a.Transport.Call(ctx, 2, "lease/renew", []byte("5")); err != nil || string(got) != "lease/renew(5)" {
		t.Fatalf("%q, %v", got, err)
	}
	var refused *CallError
	if _, err := a.Transport.Call(ctx, 2, "bad/kind", nil); !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	if _, err := a.Transport.Call(ctx, 9, "lease/renew", nil); !errors.Is(err, ErrUnknownPeer) {
		t.Fatalf("got %v", err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	b := newSide(t, 2, 7)
	foreign := newSide(t, 1, 8)
	foreign.knows(b)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var refused *CallError
	if _, err := foreign.Transport.Call(ctx, 2, "x", nil); !errors.As(err, &refused) || refused.Status != http.StatusPreconditionFailed {
		t.Fatalf("a member of another cluster: %v", err)
	}
	gone := newSide(t, 3, 7)
	b.removed[3] = true
	gone.knows(b)
	waitFor(t, "word of its removal", func() bool {
		gone.mu.Lock()
		defer gone.mu.Unlock()
		return gone.removedByPeers
	})
	if !gone.Connected(2).IsZero() {
		t.Fatal("a removed member is connected")
	}
}

// A member hears of a peer that ended, once all that came from it was handed on;
// not of one that only took another way.
func TestAPeerHangsUp(t *testing.T) {
	a, b := newSide(t, 1, 7), newSide(t, 2, 7)
	heard := func() (n int) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.hungUp)
	}
	streams := func() []net.Conn {
		b.Transport.mu.Lock()
		defer b.Transport.mu.Unlock()
		return slices.Collect(maps.Keys(b.accepted))
	}
	a.knows(b)
	waitFor(t, "the connection", func() bool { return !a.Connected(2).IsZero() })
	first := streams()[0]
	a.SetPeers(map[uint64][]string{2: {strings.Replace(b.url, "127.0.0.1", "localhost", 1)}})
	waitFor(t, "the second connection alone", func() bool { now := streams(); return len(now) == 1 && now[0] != first })
	if n := heard(); n != 0 {
		t.Fatalf("heard %d times that a peer hung up", n)
	}
	const last = 500
	for i := range uint64(last) {
		a.Send([]*raftpb.Message{heartbeat(1, 2, i+1)})
	}
	waitFor(t, "the last message", func() bool { return len(b.received) == last })
	a.Close()
	waitFor(t, "word of the end", func() bool { return heard() == 1 })
}

// A peer that comes back is connected to again, and what is sent then arrives.
func TestReconnect(t *testing.T) {
	a, b := newSide(t, 1, 7), newSide(t, 2, 7)
	a.knows(b)
	waitFor(t, "the connection", func() bool { return !a.Connected(2).IsZero() })
	b.Transport.mu.Lock()
	for c := range b.accepted {
		_ = c.Close()
	}
	b.Transport.mu.Unlock()
	waitFor(t, "a message after the break", func() bool {
		a.Send([]*raftpb.Message{heartbeat(1, 2, 1)})
		select {
		case <-b.received:
			return true
		default:
			return false
		}
	})
}

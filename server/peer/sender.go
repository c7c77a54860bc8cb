package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const (
	// maxQueueMessages and maxQueueBytes bound what waits for one peer.
	maxQueueMessages = 4096
	maxQueueBytes    = 128 << 20
	// beatInterval is how often either side shows that it is there;
	// beatTimeout is how long the other waits for that.
	beatInterval = 500 * time.Millisecond
	beatTimeout  = 3 * time.Second
	writeTimeout = 5 * time.Second
	minBackoff   = 50 * time.Millisecond
	maxBackoff   = time.Second
	// handOverTimeout is how long a connection to a peer's old URLs serves on while
	// there is none to its new ones: long enough to connect, too short to hide from
	// an election that the new ones lead nowhere.
	handOverTimeout = 500 * time.Millisecond
)

// errDropped: a message found no room, or no connection.
var errDropped = errors.New("peer: message dropped")

// errRetired: another sender serves the peer's new URLs.
var errRetired = errors.New("peer: the peer has other URLs")

// sender owns the connection to one peer.
type sender struct {
	t    *Transport
	id   uint64
	urls []string
	seen PeerObserver
	quit context.CancelFunc
	ctx  context.Context
	done chan struct{}
	wake chan struct{}

	mu sync.Mutex
	// queue waits to be written, oldest first. Invariant: it is bounded by
	// maxQueueMessages and maxQueueBytes.
	queue      []*raftpb.Message
	queueBytes int
	since      time.Time
	// next is the URL to try.
	next int
	// old is the connection to the peer's URLs of before, which takes the messages
	// until this one is there; nil when there is none, or none any more. Its lock is
	// taken inside this one's.
	old *sender
	// retired: what is in the queue is the last.
	retired bool
}

// startSender starts a connection; old is the one to the peer's URLs of before,
// or nil. What was given to that one still arrives.
func startSender(t *Transport, id uint64, urls []string, old *sender) *sender {
	s := &sender{t: t, id: id, urls: urls, old: old, seen: t.c.Observer.Peer(id), done: make(chan struct{}), wake: make(chan struct{}, 1)}
	s.ctx, s.quit = context.WithCancel(t.ctx)
	if old != nil {
		context.AfterFunc(s.ctx, old.stop)
		late := time.AfterFunc(handOverTimeout, s.takeOver)
		context.AfterFunc(s.ctx, func() { late.Stop() })
	}
	go s.run(old)
	return s
}

func (s *sender) stop() { s.quit() }

func (s *sender) url() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.urls[s.next%len(s.urls)]
}

func (s *sender) connectedSince() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.old != nil {
		return s.old.connectedSince()
	}
	return s.since
}

// send queues a message, or drops it when the peer is not connected or does not
// keep up.
func (s *sender) send(m *raftpb.Message) {
	if !s.enqueue(m) {
		s.seen.Sent(0, errDropped)
		s.t.c.Handler.Unreachable(s.id)
		s.giveBack(m)
	}
}

// giveBack returns what raft would not send anew.
func (s *sender) giveBack(messages ...*raftpb.Message) {
	for _, m := range messages {
		if m.GetType() == raftpb.MsgProp {
			s.t.c.Handler.Unsent(m)
		}
	}
}

func (s *sender) enqueue(m *raftpb.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.old != nil {
		return s.old.enqueue(m)
	}
	size := proto.Size(m)
	full := len(s.queue) >= maxQueueMessages || s.queueBytes+size > maxQueueBytes
	if full || s.since.IsZero() {
		return false
	}
	s.queue = append(s.queue, m)
	s.queueBytes += size
	s.rouse()
	return true
}

func (s *sender) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}

// takeOver takes the messages from now on; the connection to the old URLs ends
// when it has written what it has.
func (s *sender) takeOver() {
	s.mu.Lock()
	old := s.old
	s.old = nil
	down := s.since.IsZero()
	s.mu.Unlock()
	if old == nil {
		return
	}
	old.retire()
	if down {
		s.seen.Connected(false) // the other has been
	}
}

// retire ends a sender after what it has queued; one without a connection at once.
func (s *sender) retire() {
	s.takeOver() // it may itself wait for its turn
	s.mu.Lock()
	s.retired = true
	down := s.since.IsZero()
	s.mu.Unlock()
	if down {
		s.stop()
		return
	}
	s.rouse()
}

func (s *sender) take() []*raftpb.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queue
	s.queue, s.queueBytes = nil, 0
	return q
}

// run keeps a connection until stop, and outlives the one of before.
func (s *sender) run(old *sender) {
	defer func() {
		if old != nil {
			<-old.done
		}
		close(s.done)
	}()
	backoff := minBackoff
	for s.ctx.Err() == nil {
		conn, err := s.dial()
		if err == nil {
			backoff = minBackoff
			err = s.stream(conn)
		}
		s.lost(err)
		select {
		case <-s.ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// lost notes that the connection is gone and drops what waited: raft sends anew
// what matters.
func (s *sender) lost(err error) {
	s.mu.Lock()
	was := !s.since.IsZero()
	s.since = time.Time{}
	waiting := s.queue
	s.queue, s.queueBytes = nil, 0
	s.next++
	retired := s.retired
	s.mu.Unlock()
	s.giveBack(waiting...)
	if retired {
		s.quit() // the peer is another's now, and so is what is told of it
		return
	}
	if was {
		s.seen.Connected(false)
	}
	if was && s.ctx.Err() == nil {
		s.t.c.Logger.Warn("lost connection to peer", "peer", fmt.Sprintf("%x", s.id), "error", err)
		s.t.c.Handler.Unreachable(s.id)
	}
}

// dial opens the connection and turns it into a stream.
func (s *sender) dial() (net.Conn, error) {
	u, err := url.Parse(s.url())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	conn, err := dialURL(ctx, u)
	if err != nil {
		return nil, err
	}
	if isSecure(u) {
		conn, err = s.t.c.TLS.client(ctx, conn, webURL(u).Hostname())
		if err != nil {
			return nil, err
		}
	}
	if err := s.upgrade(conn, u); err != nil {
		_ = conn.Close() // the reason is err
		return nil, err
	}
	return conn, nil
}

func (s *sender) upgrade(conn net.Conn, u *url.URL) error {
	req, err := http.NewRequest(http.MethodPost, webURL(u).String()+pathRaft, nil)
	if err != nil {
		return err
	}
	s.t.identify(req, s.id)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", upgradeToken)
	if err := conn.SetDeadline(time.Now().Add(beatTimeout)); err != nil {
		return err
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 4096), req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // a switched connection has no body
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols:
		return conn.SetDeadline(time.Time{})
	case http.StatusGone:
		s.t.c.Handler.RemovedByPeers()
		return ErrRemoved
	case http.StatusPreconditionFailed:
		return ErrForeign
	}
	return fmt.Errorf("peer answers %s", resp.Status)
}

// stream writes what is queued until the connection fails or stop.
func (s *sender) stream(conn net.Conn) error {
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(s.ctx)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		failed <- listen(conn)
	}()
	// Closing the connection ends the listener; wait for it.
	defer func() { cancel(); _ = conn.Close(); <-listening }()
	s.mu.Lock()
	s.since = time.Now()
	s.mu.Unlock()
	s.seen.Connected(true)
	s.takeOver()
	s.t.c.Logger.Info("connected to peer", "peer", fmt.Sprintf("%x", s.id))
	beat := time.NewTicker(beatInterval)
	defer beat.Stop()
	var buf []byte
	for {
		buf = buf[:0]
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case <-beat.C:
			buf = append(buf, 0, 0, 0, 0)
			if took, ok := roundTrip(conn); ok {
				s.seen.RoundTrip(took)
			}
		case <-s.wake:
			var err error
			if buf, err = s.encode(buf); err != nil {
				return err
			}
		}
		last := s.last()
		if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		n, err := conn.Write(buf)
		s.seen.Sent(n, err)
		if err != nil {
			return err
		}
		if last {
			s.hangUp(conn, failed)
			return errRetired
		}
		if cap(buf) > 8<<20 {
			buf = nil
		}
	}
}

// last says that nothing comes any more: the sender is retired and its queue empty.
func (s *sender) last() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired && len(s.queue) == 0
}

// hangUp ends a connection so that what was written arrives: the other side reads
// to the end, and then closes it.
func (s *sender) hangUp(conn net.Conn, closed <-chan error) {
	s.quit()
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	// It ends no later than its own deadline.
	s.t.c.Logger.Debug("connection to old URLs of a peer ended", "peer", fmt.Sprintf("%x", s.id), "error", <-closed)
}

func (s *sender) encode(buf []byte) ([]byte, error) {
	var err error
	for _, m := range s.take() {
		if buf, err = appendFrame(buf, s.t.c.Group, m); err != nil {
			return nil, err
		}
	}
	return buf, nil
}

// listen reads the receiver's signs of life.
func listen(conn net.Conn) error {
	var b [64]byte
	for {
		if err := conn.SetReadDeadline(time.Now().Add(beatTimeout)); err != nil {
			return err
		}
		if _, err := conn.Read(b[:]); err != nil {
			return err
		}
	}
}

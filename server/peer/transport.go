package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	pathRaft     = "/metastore/v1/raft"
	pathSnapshot = "/metastore/v1/snapshot"
	pathCall     = "/metastore/v1/call/"
	// PathMembers lists the members to who wants to join.
	PathMembers = "/members"

	headerCluster = "X-Metastore-Cluster"
	headerFrom    = "X-Metastore-From"
	headerTo      = "X-Metastore-To"
	upgradeToken  = "metastore-raft"

	dialTimeout      = time.Second
	handshakeTimeout = 5 * time.Second
	// snapshotStall ends a snapshot whose bytes do not move for so long.
	snapshotStall = 10 * time.Second
	// maxCallBytes bounds a forwarded request and its answer.
	maxCallBytes = 1 << 20
	// maxMessageHeader bounds the message that leads a snapshot.
	maxMessageHeader = 1 << 20
)

var (
	// ErrUnknownPeer: the member is not in the cluster, as far as is known here.
	ErrUnknownPeer = errors.New("peer: unknown member")
	// ErrRemoved: the peers say that this member was removed from the cluster.
	ErrRemoved = errors.New("peer: this member has been removed from the cluster")
	// ErrForeign: the peer belongs to another cluster or is another member.
	ErrForeign = errors.New("peer: the other side is not the member that was meant")
)

// Handler takes what peers send. Its methods run concurrently.
type Handler interface {
	// Receive takes a message; it must not block.
	Receive(m *raftpb.Message)
	// ReceiveSnapshot reads a snapshot to its end; m is its MsgSnap.
	ReceiveSnapshot(ctx context.Context, m *raftpb.Message, r io.Reader) error
	// Call answers a request that a peer forwards.
	Call(ctx context.Context, kind string, body []byte) ([]byte, error)
	// Unreachable tells that messages to a peer were lost.
	Unreachable(id uint64)
	// HungUp tells that a peer, or its system when its process ended, closed the
	// connection over which it sends, and that all that came over it was handed on.
	HungUp(id uint64)
	// Unsent gives back a forwarded proposal of which no byte was sent: raft does
	// not send those anew.
	Unsent(m *raftpb.Message)
	// Refuses tells whether a member is to be told that it was removed for ever.
	Refuses(id uint64) bool
	// RemovedByPeers tells that a peer says that this member was removed.
	RemovedByPeers()
}

// TLS gives the config for one connection to an https URL, so that certificates
// and authorities may change between two; nil for the system's defaults.
type TLS func() *tls.Config

// client begins TLS with a host on a connection, which it closes on failure.
func (t TLS) client(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	c := &tls.Config{}
	if t != nil {
		c = t()
	}
	if c.ServerName == "" {
		c.ServerName = host
	}
	tc := tls.Client(conn, c)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the reason is err
		return nil, err
	}
	return tc, nil
}

// Config is what a transport is made of.
type Config struct {
	ID, ClusterID uint64
	Group         uint32
	TLS           TLS
	Handler       Handler
	Logger        *slog.Logger
	// Observer is told what passes; nil for nobody.
	Observer Observer
}

// Transport is one member's connections to all others.
type Transport struct {
	c      Config
	client *http.Client
	ctx    context.Context
	cancel context.CancelFunc

	mu sync.Mutex
	// peers are the other members. Guarded by mu.
	peers map[uint64]*sender
	// accepted are the streams that others opened, and who; closed by Close.
	accepted map[net.Conn]uint64
	streams  sync.WaitGroup
	closed   bool
}

// New makes a transport that knows no peers yet.
func New(c Config) *Transport {
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Transport{c: c, ctx: ctx, cancel: cancel, peers: map[uint64]*sender{}, accepted: map[net.Conn]uint64{}}
	t.client = &http.Client{Transport: httpTransport(c.TLS, dialRolling)}
	return t
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func httpTransport(c TLS, dial dialFunc) *http.Transport {
	return &http.Transport{
		DialContext: dial,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				host = address
			}
			ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
			defer cancel()
			return c.client(ctx, conn, host)
		},
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     30 * time.Second,
	}
}

// rollingConn fails a write that does not move for snapshotStall.
type rollingConn struct{ net.Conn }

func (c rollingConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(snapshotStall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func dialRolling(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return rollingConn{c}, nil
}

// SetPeers makes the given members, by ID with their peer URLs, the peers; this
// member itself is left out.
func (t *Transport) SetPeers(urls map[uint64][]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	for id, s := range t.peers {
		switch want, ok := urls[id]; {
		case !ok:
			delete(t.peers, id)
			s.stop()
		case !slices.Equal(want, s.urls):
			t.peers[id] = startSender(t, id, slices.Clone(want), s)
		}
	}
	for id, u := range urls {
		if id != t.c.ID && t.peers[id] == nil {
			t.peers[id] = startSender(t, id, slices.Clone(u), nil)
		}
	}
}

// Send queues messages; one that finds no room is dropped and reported.
func (t *Transport) Send(messages []*raftpb.Message) {
	for _, m := range messages {
		if s := t.peer(m.GetTo()); s != nil {
			s.send(m)
		}
	}
}

// Connected tells since when messages to a member flow; the zero time when they
// do not.
func (t *Transport) Connected(id uint64) time.Time {
	if s := t.peer(id); s != nil {
		return s.connectedSince()
	}
	return time.Time{}
}

func (t *Transport) peer(id uint64) *sender {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peers[id]
}

// SendSnapshot streams a snapshot led by its message and returns when the peer
// has stored it.
func (t *Transport) SendSnapshot(ctx context.Context, m *raftpb.Message, write func(io.Writer) error) error {
	ended := t.c.Observer.Peer(m.GetTo()).SendsSnapshot()
	err := t.sendSnapshot(ctx, m, write)
	ended(err)
	return err
}

func (t *Transport) sendSnapshot(ctx context.Context, m *raftpb.Message, write func(io.Writer) error) error {
	lead, err := appendLead(nil, m)
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := pw.Write(lead)
		if err == nil {
			err = write(pw)
		}
		pw.CloseWithError(err) // nil: io.EOF
	}()
	_, err = t.post(ctx, m.GetTo(), pathSnapshot, pr)
	pr.CloseWithError(errors.New("peer: snapshot request ended"))
	<-done
	return err
}

// Call asks another member to answer a request.
func (t *Transport) Call(ctx context.Context, to uint64, kind string, body []byte) ([]byte, error) {
	return t.post(ctx, to, pathCall+kind, bytes.NewReader(body))
}

func (t *Transport) post(ctx context.Context, to uint64, path string, body io.Reader) ([]byte, error) {
	s := t.peer(to)
	if s == nil {
		return nil, fmt.Errorf("%w %x", ErrUnknownPeer, to)
	}
	client, base, err := reach(t.client, t.c.TLS, s.url())
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base.String()+path, body)
	if err != nil {
		return nil, err
	}
	t.identify(req, to)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // the status decided already
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxCallBytes))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &CallError{Status: resp.StatusCode, Text: string(answer)}
	}
	return answer, nil
}

// CallError is a peer's refusal.
type CallError struct {
	Status int
	Text   string
}

func (e *CallError) Error() string {
	return fmt.Sprintf("peer: %s: %s", http.StatusText(e.Status), e.Text)
}

func (t *Transport) identify(req *http.Request, to uint64) {
	req.Header.Set(headerCluster, strconv.FormatUint(t.c.ClusterID, 16))
	req.Header.Set(headerFrom, strconv.FormatUint(t.c.ID, 16))
	req.Header.Set(headerTo, strconv.FormatUint(to, 16))
}

// Close ends every connection and waits for its goroutines.
func (t *Transport) Close() {
	t.cancel()
	t.mu.Lock()
	t.closed = true
	senders := make([]*sender, 0, len(t.peers))
	for _, s := range t.peers {
		senders = append(senders, s)
	}
	clear(t.peers)
	for c := range t.accepted {
		_ = c.Close() // its reader ends with the error
	}
	t.mu.Unlock()
	for _, s := range senders {
		s.stop()
		<-s.done
	}
	t.streams.Wait()
	t.client.CloseIdleConnections()
}

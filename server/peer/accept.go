package peer

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Routes registers what peers ask for; the mux serves the peer URLs.
func (t *Transport) Routes(mux *http.ServeMux) {
	mux.HandleFunc("POST "+pathRaft, t.checked(t.acceptStream))
	mux.HandleFunc("POST "+pathSnapshot, t.checked(t.acceptSnapshot))
	mux.HandleFunc("POST "+pathCall+"{kind...}", t.checked(t.acceptCall))
}

// checked lets only members of this cluster through that mean this member.
func (t *Transport) checked(next func(http.ResponseWriter, *http.Request, uint64)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cluster, err1 := strconv.ParseUint(r.Header.Get(headerCluster), 16, 64)
		from, err2 := strconv.ParseUint(r.Header.Get(headerFrom), 16, 64)
		to, err3 := strconv.ParseUint(r.Header.Get(headerTo), 16, 64)
		switch {
		case errors.Join(err1, err2, err3) != nil:
			http.Error(w, "the cluster, from and to headers must be hexadecimal IDs", http.StatusBadRequest)
		case cluster != t.c.ClusterID:
			http.Error(w, fmt.Sprintf("this is cluster %x, not %x", t.c.ClusterID, cluster), http.StatusPreconditionFailed)
		case to != t.c.ID:
			http.Error(w, fmt.Sprintf("this is member %x, not %x", t.c.ID, to), http.StatusPreconditionFailed)
		case t.c.Handler.Refuses(from):
			http.Error(w, fmt.Sprintf("member %x was removed", from), http.StatusGone)
		default:
			next(w, r, from)
		}
	}
}

func (t *Transport) acceptStream(w http.ResponseWriter, r *http.Request, from uint64) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), upgradeToken) {
		http.Error(w, "an upgrade to "+upgradeToken+" is expected", http.StatusBadRequest)
		return
	}
	h, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "this connection cannot be upgraded", http.StatusBadRequest)
		return
	}
	conn, rw, err := h.Hijack()
	if err != nil {
		t.c.Logger.Warn("peer stream refused", "peer", fmt.Sprintf("%x", from), "error", err)
		return
	}
	if !t.adopt(conn, from) {
		_ = conn.Close() // the transport is closed
		return
	}
	defer t.streams.Done()
	_, err = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeToken + "\r\n\r\n"))
	if err == nil {
		err = t.receive(conn, rw.Reader, from)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		t.c.Logger.Debug("peer stream ended", "peer", fmt.Sprintf("%x", from), "error", err)
	}
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	if last := t.release(conn, from); last && hungUp {
		t.c.Handler.HungUp(from)
	}
}

func (t *Transport) adopt(conn net.Conn, from uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.accepted[conn] = from
	t.streams.Add(1)
	return true
}

// release forgets a stream, and tells whether it was the last one of its peer.
func (t *Transport) release(conn net.Conn, from uint64) bool {
	_ = conn.Close() // may be closed already
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.accepted, conn)
	for _, other := range t.accepted {
		if other == from {
			return false
		}
	}
	return !t.closed
}

// receive hands messages on until the stream fails, and answers signs of life.
func (t *Transport) receive(conn net.Conn, r *bufio.Reader, from uint64) error {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		answerBeats(conn, stop)
	}()
	defer func() { close(stop); <-stopped }()
	seen, counted := t.c.Observer.Peer(from), &countingReader{r: r}
	for {
		if err := conn.SetReadDeadline(time.Now().Add(beatTimeout)); err != nil {
			return err
		}
		group, m, err := readFrame(counted)
		seen.Received(counted.n, unlessEnded(err))
		counted.n = 0
		if err != nil {
			return err
		}
		if t.c.Handler.Refuses(from) {
			return ErrRemoved // it hears so when it connects again
		}
		if m == nil {
			continue
		}
		if group != t.c.Group {
			return fmt.Errorf("%w: group %d", errFrame, group)
		}
		t.c.Handler.Receive(m)
	}
}

// unlessEnded is nil for a stream that either side just closed.
func unlessEnded(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func answerBeats(conn net.Conn, stop <-chan struct{}) {
	tick := time.NewTicker(beatInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			if conn.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
				return
			}
			if _, err := conn.Write([]byte{1}); err != nil {
				_ = conn.Close() // so that the reader ends too
				return
			}
		}
	}
}

func (t *Transport) acceptSnapshot(w http.ResponseWriter, r *http.Request, from uint64) {
	ended := t.c.Observer.Peer(from).ReceivesSnapshot()
	body := &rollingReader{r: r.Body, c: http.NewResponseController(w)}
	m, err := readLead(body)
	defer func() { ended(err) }()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err = t.c.Handler.ReceiveSnapshot(r.Context(), m, body); err != nil {
		t.c.Logger.Warn("snapshot not received", "peer", fmt.Sprintf("%x", from), "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// rollingReader fails when the sender is silent for snapshotStall.
type rollingReader struct {
	r io.Reader
	c *http.ResponseController
}

func (r *rollingReader) Read(b []byte) (int, error) {
	if err := r.c.SetReadDeadline(time.Now().Add(snapshotStall)); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// appendLead appends the message that leads a snapshot: two numbers of 8
// hexadecimal digits, its length and its CRC32C, and its bytes.
func appendLead(b []byte, m *raftpb.Message) ([]byte, error) {
	lead, err := proto.Marshal(m)
	if err != nil {
		return b, fmt.Errorf("encode snapshot message: %w", err)
	}
	b = fmt.Appendf(b, "%08x%08x", len(lead), crc32.Checksum(lead, castagnoli))
	return append(b, lead...), nil
}

func readLead(r io.Reader) (*raftpb.Message, error) {
	var h [16]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	n, err1 := strconv.ParseUint(string(h[:8]), 16, 32)
	sum, err2 := strconv.ParseUint(string(h[8:]), 16, 32)
	if err1 != nil || err2 != nil || n > maxMessageHeader {
		return nil, fmt.Errorf("%w: lead %q", errFrame, h)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	if crc32.Checksum(b, castagnoli) != uint32(sum) {
		return nil, fmt.Errorf("%w: checksum of the lead", errFrame)
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(b, m); err != nil || m.GetType() != raftpb.MsgSnap {
		return nil, fmt.Errorf("%w: lead is not a snapshot message", errFrame)
	}
	return m, nil
}

func (t *Transport) acceptCall(w http.ResponseWriter, r *http.Request, _ uint64) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCallBytes))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := t.c.Handler.Call(r.Context(), r.PathValue("kind"), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write(answer) // the caller is gone when this fails
}

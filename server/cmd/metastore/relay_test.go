package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// relay stands before a member's peer address: what the others say to it, and
// what it answers, goes through here. Who speaks is in the head of the first
// request of a connection.
type relay struct {
	*links
	place  int
	target string
	known  *directory
}

// directory tells members' places by their IDs, as requests' heads have them.
type directory struct {
	mu sync.Mutex
	// places is guarded by mu.
	places map[string]int
}

// place is that of the member with an ID; -1 while nobody has spoken to it yet.
func (d *directory) place(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, ok := d.places[id]; ok {
		return p
	}
	return -1
}

func (d *directory) note(id string, place int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.places[id] = place
}

// throughRelays has the members of a new cluster reach each other over relays.
// It needs no privilege.
func throughRelays(t *testing.T, members []*member) *links {
	t.Helper()
	l, known := newLinks(), &directory{places: map[string]int{}}
	for i, m := range members {
		r := &relay{links: l, place: i, target: m.peer, known: known}
		m.advertised = r.serve(t)
	}
	introduce(members)
	return l
}

// serve relays until the test ends.
func (r *relay) serve(t *testing.T) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.Map // every connection, so that it ends with the test
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // the test is over
			}
			open.Store(c, nil)
			running.Go(func() { r.carry(c, &open) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		r.heal()
		open.Range(func(c, _ any) bool {
			_ = c.(net.Conn).Close()
			return true
		})
		running.Wait()
	})
	return ln.Addr().String()
}

// carry relays one connection.
func (r *relay) carry(in net.Conn, open *sync.Map) {
	defer func() { _ = in.Close(); open.Delete(in) }()
	first, err := readHead(in)
	if err != nil {
		return
	}
	out, err := net.Dial("tcp", r.target)
	if err != nil {
		return // as when nobody listens: it ends
	}
	open.Store(out, nil)
	defer func() { _ = out.Close(); open.Delete(out) }()
	if to := headValue(first, "X-Metastore-To"); to != "" {
		r.known.note(to, r.place)
	}
	from := headValue(first, "X-Metastore-From")
	var both sync.WaitGroup
	there := func() (link, <-chan struct{}) { return r.between(r.known.place(from), r.place) }
	back := func() (link, <-chan struct{}) { return r.between(r.place, r.known.place(from)) }
	both.Go(func() { pump(io.MultiReader(bytes.NewReader(first), in), in, out, there) })
	both.Go(func() { pump(out, out, in, back) })
	both.Wait()
}

// readHead reads to the end of a request's head, and perhaps beyond.
func readHead(c net.Conn) ([]byte, error) {
	var head []byte
	for chunk := make([]byte, 4096); !bytes.Contains(head, []byte("\r\n\r\n")); {
		n, err := c.Read(chunk)
		if err != nil {
			return nil, err
		}
		if head = append(head, chunk[:n]...); len(head) > 64<<10 {
			return nil, errors.New("no head of a request")
		}
	}
	return head, nil
}

func headValue(head []byte, name string) string {
	for line := range strings.SplitSeq(string(head), "\r\n") {
		if key, value, ok := strings.Cut(line, ": "); ok && strings.EqualFold(key, name) {
			return value
		}
	}
	return ""
}

// piece is what was read at once, with the time when it may arrive.
type piece struct {
	b   []byte
	due time.Time
}

// pump carries one direction, from what is read of a connection to another, in
// order. What was said before the speaker's end still arrives.
func pump(r io.Reader, from, to net.Conn, way func() (link, <-chan struct{})) {
	pieces := make(chan piece, 64)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 32<<10)
			n, err := r.Read(b)
			if n > 0 {
				l, _ := way()
				d := l.latency()
				if l.lost > 0 && chance(l.lost)(0, 0) {
					d += resent
				}
				pieces <- piece{b[:n], time.Now().Add(d)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due)) // the delay that the link is to have
		if !pass(to, p.b, way) {
			_, _ = from.Close(), to.Close() // one may be closed already
			break
		}
	}
	for range pieces { // so that the reader ends
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // it may be closed already
	}
}

// pass delivers a piece as soon as the way is open; false when there is none.
func pass(to net.Conn, b []byte, way func() (link, <-chan struct{})) bool {
	for {
		l, changed := way()
		if l.reset {
			return false
		}
		if !l.cut {
			_, err := to.Write(b)
			return err == nil
		}
		<-changed
	}
}

// A relay cuts one direction alone, what was on its way comes after the cut, and
// a delay is one.
func TestRelay(t *testing.T) {
	l := newLinks()
	a, b := relayed(t, l)
	l.spoil(2, link{cut: true}, deaf(1))
	says(t, a, "cut")
	says(t, b, "answer")
	hears(t, a, "answer")
	var any [1]byte
	if err := b.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(any[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q came through a cut, %v", any, err)
	}
	l.heal()
	hears(t, b, "cut")
	l.spoil(2, link{delay: 100 * time.Millisecond}, all)
	began := time.Now()
	says(t, a, "late")
	hears(t, b, "late")
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("what was to take 100 ms came after %s", took)
	}
	l.spoil(2, link{reset: true}, all)
	says(t, a, "lost")
	for name, c := range map[string]net.Conn{"speaker": a, "hearer": b} {
		if err := c.SetReadDeadline(time.Now().Add(clientPatience)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(any[:]); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after a reset the %s reads %d bytes, %v", name, n, err)
		}
	}
}

// relayed are the ends of a connection through a relay, from place 0 to 1.
func relayed(t *testing.T, l *links) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := &relay{links: l, place: 1, target: ln.Addr().String(), known: &directory{places: map[string]int{"a": 0}}}
	if a, err = net.Dial("tcp", r.serve(t)); err != nil {
		t.Fatal(err)
	}
	head := "POST / HTTP/1.1\r\nX-Metastore-From: a\r\n\r\n"
	says(t, a, head)
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	hears(t, b, head)
	return a, b
}

func says(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if _, err := c.Write([]byte(what)); err != nil {
		t.Fatal(err)
	}
}

func hears(t *testing.T, c net.Conn, what string) {
	t.Helper()
	b := make([]byte, len(what))
	if err := c.SetReadDeadline(time.Now().Add(clientPatience)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(c, b); err != nil || string(b) != what {
		t.Fatalf("%q was heard of %q, %v", b[:n], what, err)
	}
}

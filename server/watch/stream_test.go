package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metastore.io/metastore/server/state"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// client runs a stream and reads its responses one by one.
type client struct {
	t      *testing.T
	s      *Stream
	resp   chan Response // unbuffered: nothing is sent that is not read
	ended  chan error
	cancel context.CancelFunc
}

func connect(t *testing.T, h *Hub) *client {
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{t: t, s: h.NewStream(), resp: make(chan Response), ended: make(chan error, 1), cancel: cancel}
	go func() {
		c.ended <- c.s.Run(ctx, func(r Response) error {
			select {
			case c.resp <- r:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	t.Cleanup(c.close)
	return c
}

func (c *client) close() {
	c.cancel()
	<-c.s.done
}

func (c *client) create(r Request) {
	c.t.Helper()
	if err := c.s.Create(c.t.Context(), r); err != nil {
		c.t.Fatalf("create %+v: %v", r, err)
	}
}

// next is the next response as text.
func (c *client) next() string {
	c.t.Helper()
	select {
	case r := <-c.resp:
		return show(r)
	case err := <-c.ended:
		c.t.Fatalf("stream ended: %v", err)
	case <-time.After(20 * time.Second):
		c.t.Fatal("no response within 20 s")
	}
	return ""
}

func (c *client) want(lines ...string) {
	c.t.Helper()
	for _, want := range lines {
		if got := c.next(); got != want {
			c.t.Fatalf("response\n got %s\nwant %s", got, want)
		}
	}
}

func show(r Response) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d@%d", r.WatchID, r.Revision)
	if r.Created {
		b.WriteString(" created")
	}
	if r.Canceled {
		b.WriteString(" canceled")
	}
	if r.CompactRevision != 0 {
		fmt.Fprintf(&b, " compacted %d", r.CompactRevision)
	}
	if r.Err != nil {
		fmt.Fprintf(&b, " %q", r.Err)
	}
	if r.Fragment {
		b.WriteString(" fragment")
	}
	for _, ev := range r.Events() {
		b.WriteString(" " + showEvent(ev))
	}
	return b.String()
}

func showEvent(ev *mvccpb.Event) string {
	s := fmt.Sprintf("%s=%s/%d", ev.Kv.Key, ev.Kv.Value, ev.Kv.ModRevision)
	if ev.Type == mvccpb.Event_DELETE {
		s = fmt.Sprintf("-%s/%d", ev.Kv.Key, ev.Kv.ModRevision)
	}
	if ev.PrevKv != nil {
		s += fmt.Sprintf("(was %s)", ev.PrevKv.Value)
	}
	return s
}

func publish(h *Hub, revs ...state.RevisionEvents) { h.Publish(revs) }

func TestLiveEvents(t *testing.T) {
	st := newStore()
	h := NewHub(st, Options{})
	c := connect(t, h)
	c.create(Request{Key: []byte("a")})
	c.create(Request{Key: []byte("a"), End: []byte("c"), PrevKV: true, Fragment: true})
	c.create(Request{Key: []byte("b"), End: []byte{0}, NoPut: true})
	c.create(Request{End: []byte{0}, NoDelete: true, ID: 9})
	c.want("0@1 created", "1@1 created", "2@1 created", "9@1 created")

	one := connect(t, h)
	one.create(Request{Key: []byte("a"), End: []byte("c")})
	one.want("0@1 created")
	publish(h, st.write(put("a", "1")))
	one.want("0@2 a=1/2")
	publish(h, st.write(put("a", "2"), put("x", "9"), put("b", "3")), st.write(del("x")), st.write(del("a"), del("b")))
	one.want("0@5 a=2/3 b=3/3 -a/5 -b/5") // committed together, sent together
	c.wantEvents(14, map[int64]string{
		0: " a=1/2 a=2/3 -a/5",
		1: " a=1/2 a=2/3(was 1) b=3/3 -a/5(was 2) -b/5(was 3)",
		2: " -x/4 -b/5",
		9: " a=1/2 a=2/3 x=9/3 b=3/3",
	})
	publish(h, st.write(put("a", "6")))
	for range 3 {
		if r := <-c.resp; r.Fragment != (r.WatchID == 1) {
			t.Errorf("response %s", show(r))
		}
	}
}

func TestStartRevisions(t *testing.T) {
	st := newStore()
	st.write(put("a", "1"))
	st.write(put("a", "2"), put("b", "2"))
	st.write(del("a"))
	h := NewHub(st, Options{})
	c := connect(t, h)
	c.create(Request{Key: []byte("a"), StartRevision: 1, PrevKV: true})
	c.want("0@4 created", "0@4 a=1/2 a=2/3(was 1) -a/4(was 2)")
	c.create(Request{Key: []byte("a"), StartRevision: 3})
	c.want("1@4 created", "1@4 a=2/3 -a/4")
	c.create(Request{Key: []byte("a"), StartRevision: 6, ID: 7})
	c.want("7@4 created")
	// A watcher that still looks back would get both revisions at once.
	for deadline := time.Now().Add(20 * time.Second); h.Stats().Lagging != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d watchers still look back", h.Stats().Lagging)
		}
	}
	publish(h, st.write(put("a", "5")), st.write(put("a", "6")))
	c.wantEvents(5, map[int64]string{0: " a=5/5 a=6/6(was 5)", 1: " a=5/5 a=6/6", 7: " a=6/6"})

	// Readable already, published only now: neither lost nor sent twice.
	unpublished := st.write(put("n", "7"))
	d := connect(t, h)
	d.create(Request{Key: []byte("n"), StartRevision: 7})
	d.create(Request{Key: []byte("n")})
	d.want("0@7 created", "1@7 created")
	publish(h, unpublished, st.write(put("n", "8")))
	d.wantEvents(3, map[int64]string{0: " n=7/7 n=8/8", 1: " n=8/8"})
}

func TestRefusals(t *testing.T) {
	h := NewHub(newStore(), Options{})
	c := connect(t, h)
	c.create(Request{Key: []byte("b"), End: []byte("b")})
	c.want(`-1@1 created canceled "mvcc: watcher range is empty"`)
	c.create(Request{Key: []byte("b"), ID: 3})
	c.create(Request{Key: []byte("c"), ID: 3})
	c.want("3@1 created", `-1@1 created canceled "mvcc: duplicate watch ID provided on the WatchStream"`)
	if err := c.s.Refuse(t.Context(), errors.New("no")); err != nil {
		t.Fatal(err)
	}
	c.want(`-1@1 created canceled "no"`)
	for range 3 {
		c.create(Request{Key: []byte("d")})
	}
	c.create(Request{Key: []byte("d")})
	c.want("0@1 created", "1@1 created", "2@1 created", "4@1 created") // 3 is taken
}

func TestCancel(t *testing.T) {
	st := newStore()
	h := NewHub(st, Options{})
	c := connect(t, h)
	cancel := func(id int64) {
		t.Helper()
		if err := c.s.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	cancel(17) // not there: no answer
	c.create(Request{Key: []byte("a")})
	c.want("0@1 created")
	publish(h, st.write(put("a", "1")))
	cancel(0)
	publish(h, st.write(put("a", "2")))
	cancel(0)
	c.want("0@2 a=1/2", "0@2 canceled")
	c.create(Request{Key: []byte("a"), ID: 5})
	c.want("5@3 created") // nothing of 0 came after its end

	// Compacted before it could replay: told so, and the ID is answered once.
	st.setCompact(3)
	c.create(Request{Key: []byte("a"), StartRevision: 2, ID: 6})
	c.want("6@3 created", "6@3 canceled compacted 3")
	cancel(6)
	c.want("6@3 canceled")
	if got := h.Stats(); got.Watchers != 1 || got.Lagging != 0 {
		t.Errorf("stats %+v", got)
	}
}

func TestCancelWhileLagging(t *testing.T) {
	st := newStore()
	st.reads = make(chan struct{})
	for range 10 {
		st.write(put("a", "v"))
	}
	h := NewHub(st, Options{ReplayBytes: 1})
	c := connect(t, h)
	c.create(Request{Key: []byte("a"), StartRevision: 2})
	c.want("0@11 created")
	<-st.reads
	c.want("0@2 a=v/2")
	<-st.reads // a step is under way
	if err := c.s.Cancel(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	got := c.next()
	if got == "0@3 a=v/3" { // that step's events come before the end
		got = c.next()
	}
	if got != "0@11 canceled" {
		t.Fatalf("got %s", got)
	}
	if st := h.Stats(); st.Lagging != 0 || st.Watchers != 0 {
		t.Errorf("stats %+v", st)
	}
	c.create(Request{Key: []byte("b")})
	c.want("1@11 created")
}

func TestFullOutboxLagsAndRecovers(t *testing.T) {
	st := newStore()
	h := NewHub(st, Options{OutboxEvents: 3})
	c := connect(t, h)
	c.create(Request{Key: []byte("a"), PrevKV: true})
	c.create(Request{Key: []byte("b")})
	c.want("0@1 created", "1@1 created")
	const n = 50
	for i := range n { // the client does not read
		publish(h, st.write(put("a", fmt.Sprint(i)), put("b", "x")))
	}
	if got := h.Stats().Lagging; got != 2 {
		t.Errorf("%d watchers lag, want 2", got)
	}
	next := map[int64]int64{0: 2, 1: 2}
	for next[0] <= n+1 || next[1] <= n+1 {
		r := <-c.resp
		for _, ev := range r.Events() {
			if ev.Kv.ModRevision != next[r.WatchID] {
				t.Fatalf("watcher %d got revision %d, want %d", r.WatchID, ev.Kv.ModRevision, next[r.WatchID])
			}
			if hasPrev := ev.PrevKv != nil; hasPrev != (r.WatchID == 0 && ev.Kv.ModRevision > 2) {
				t.Fatalf("watcher %d, revision %d: previous value %v", r.WatchID, ev.Kv.ModRevision, ev.PrevKv)
			}
			next[r.WatchID]++
		}
	}
	publish(h, st.write(put("b", "live")))
	if err := c.s.RequestProgress(t.Context()); err != nil { // answered when nobody lags
		t.Fatal(err)
	}
	c.want(fmt.Sprintf("1@%d b=live/%d", n+2, n+2), fmt.Sprintf("-1@%d", n+2))
	if got := h.Stats().Lagging; got != 0 {
		t.Errorf("%d watchers lag after catching up", got)
	}
}

func TestProgress(t *testing.T) {
	st := newStore()
	h := NewHub(st, Options{OutboxEvents: 1})
	c := connect(t, h)
	ask := func() {
		t.Helper()
		if err := c.s.RequestProgress(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ask() // no watchers: no answer
	c.create(Request{Key: []byte("a")})
	c.want("0@1 created")
	ask()
	c.want("-1@1")

	// Events come first, also those that are being replayed.
	for range 5 {
		publish(h, st.write(put("a", "v")))
	}
	ask()
	seen := int64(1)
	for {
		r := <-c.resp
		if r.WatchID == InvalidID {
			if seen != 6 || r.Revision != 6 {
				t.Fatalf("progress %d after events up to %d", r.Revision, seen)
			}
			break
		}
		for _, ev := range r.Events() {
			seen = ev.Kv.ModRevision
		}
	}

	// What a client may have read is published before the answer.
	r := st.write(put("b", "v"))
	ask()
	publish(h, r)
	c.want("-1@7")

	// A watcher of the future has no progress.
	c.create(Request{Key: []byte("a"), StartRevision: 100})
	ask()
	c.create(Request{Key: []byte("z")})
	c.want("1@7 created", "2@7 created")
}

func TestProgressTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		h := NewHub(st, Options{ProgressInterval: time.Minute})
		c := connect(t, h)
		c.create(Request{Key: []byte("a"), Progress: true})
		c.create(Request{Key: []byte("a")})
		c.want("0@1 created", "1@1 created")
		start := time.Now()
		read := func() string { return show(<-c.resp) }
		if got := read(); got != "0@1" {
			t.Fatal(got)
		}
		if d := time.Since(start); d < time.Minute || d > 67*time.Second {
			t.Errorf("progress after %v", d)
		}
		// Events in the interval take the place of a progress response.
		publish(h, st.write(put("a", "1")))
		read()
		read()
		start = time.Now()
		if got := read(); got != "0@2" {
			t.Fatal(got)
		}
		if d := time.Since(start); d < 110*time.Second {
			t.Errorf("progress %v after an event", d)
		}
		c.close()
		synctest.Wait()
	})
}

func TestReset(t *testing.T) {
	st := newStore()
	h := NewHub(st, Options{})
	c := connect(t, h)
	c.create(Request{Key: []byte("a"), PrevKV: true})
	c.create(Request{Key: []byte("f"), StartRevision: 8})
	c.want("0@1 created", "1@1 created")
	publish(h, st.write(put("a", "1")))
	c.want("0@2 a=1/2")

	restored := st.clone() // the leader went on; we get its snapshot
	r3, r4 := restored.write(put("a", "2")), restored.write(del("a"))
	h.Reset(restored)
	c.want("0@4 a=2/3(was 1) -a/4(was 2)")
	publish(h, r3, r4, restored.write(put("a", "3"))) // what it has already is not sent again
	c.want("0@5 a=3/5")

	gone := restored.clone()
	for range 4 {
		gone.write(put("f", "x"))
	}
	gone.setCompact(8)
	h.Reset(gone)
	got := map[string]bool{c.next(): true, c.next(): true}
	if !got["0@9 canceled compacted 8"] || !got["1@9 f=x/8 f=x/9"] {
		t.Errorf("after compaction: %v", got)
	}
}

func TestResetDuringReplay(t *testing.T) {
	st := newStore()
	st.write(put("a", "1"))
	st.reads, st.gate = make(chan struct{}), make(chan struct{})
	st.fail = errors.New("closed")
	h := NewHub(st, Options{})
	c := connect(t, h)
	c.create(Request{Key: []byte("a"), StartRevision: 2})
	c.want("0@2 created")
	<-st.reads
	h.Reset(st.clone())
	close(st.gate) // the old source fails now, which does not matter any more
	c.want("0@2 a=1/2")
}

func TestStoreFailureEndsTheStream(t *testing.T) {
	st := newStore()
	st.write(put("a", "1"))
	st.fail = errors.New("disk is gone")
	h := NewHub(st, Options{})
	c := connect(t, h)
	c.create(Request{Key: []byte("a"), StartRevision: 2})
	c.want("0@2 created")
	if err := <-c.ended; !errors.Is(err, st.fail) {
		t.Errorf("stream ended with %v", err)
	}
	if err := c.s.Create(t.Context(), Request{}); !errors.Is(err, ErrClosed) {
		t.Errorf("create on an ended stream: %v", err)
	}
}

func TestClose(t *testing.T) {
	h := NewHub(newStore(), Options{})
	c := connect(t, h)
	c.create(Request{Key: []byte("a")})
	c.want("0@1 created")
	h.Close()
	h.Close()
	if err := <-c.ended; !errors.Is(err, ErrClosed) {
		t.Errorf("stream ended with %v", err)
	}
	publish(h, newStore().write(put("a", "1")))
	if got := h.Stats(); got.Streams != 0 || got.Watchers != 0 {
		t.Errorf("stats %+v", got)
	}
}

// A client that sends requests and reads no answers waits; it costs no memory.
func TestRequestsWaitForAReader(t *testing.T) {
	h := NewHub(newStore(), Options{})
	c := connect(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		n := 0
		for c.s.Refuse(ctx, errors.New("no")) == nil {
			n++
			if n == maxControls {
				cancel()
			}
		}
		done <- n
	}()
	if n := <-done; n < maxControls || n > 2*maxControls+2 {
		t.Errorf("%d requests were taken", n)
	}
}

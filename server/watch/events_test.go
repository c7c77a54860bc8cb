package watch

import (
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// collect reads responses until n events came, and returns those of each
// watcher. Which of them come together depends on how fast they are read, but
// each response has whole revisions, up to its own.
func (c *client) collect(n int) map[int64]string {
	c.t.Helper()
	events, until := map[int64]string{}, map[int64]int64{}
	for n > 0 {
		select {
		case r := <-c.resp:
			evs := r.Events()
			n -= len(evs)
			if len(evs) == 0 || evs[0].Kv.ModRevision <= until[r.WatchID] || evs[len(evs)-1].Kv.ModRevision > r.Revision {
				c.t.Fatalf("after revision %d: %s", until[r.WatchID], show(r))
			}
			until[r.WatchID] = r.Revision
			for _, ev := range evs {
				events[r.WatchID] += " " + showEvent(ev)
			}
		case <-time.After(20 * time.Second):
			c.t.Fatalf("%d events did not come within 20 s; got %v", n, events)
		}
	}
	return events
}

func (c *client) wantEvents(n int, want map[int64]string) {
	c.t.Helper()
	if got := c.collect(n); !maps.Equal(got, want) {
		c.t.Errorf("events\n got %v\nwant %v", got, want)
	}
}

// What waits for a watcher is sent as one response, but not past the answer to a
// request, and not beyond a size.
func TestWaitingEventsGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		h := NewHub(st, Options{})
		c := connect(t, h)
		c.create(Request{Key: []byte("a")})
		c.create(Request{Key: []byte("b")})
		c.want("0@1 created", "1@1 created")
		write := func(key, value string) { publish(h, st.write(put(key, value))) }
		write("a", "1")
		synctest.Wait() // it is being sent
		write("a", "2")
		write("b", "3")
		write("a", "4")
		c.create(Request{Key: []byte("c")})
		write("b", "5")
		write("b", "6")
		c.want("0@2 a=1/2", "0@5 a=2/3 a=4/5", "1@4 b=3/4", "2@5 created", "1@7 b=5/6 b=6/7")

		write("a", "7")
		synctest.Wait()
		for range 9 {
			write("a", strings.Repeat("v", joinedBytes/8))
		}
		c.want("0@8 a=7/8")
		sizes := [2]int{len((<-c.resp).Parts), len((<-c.resp).Parts)}
		if sizes != [2]int{7, 2} {
			t.Errorf("parts %v", sizes)
		}
		c.close()
		synctest.Wait()
		if n := h.unsent.Load(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}

// Watchers of the same keys that want the same share what is encoded, which
// counts as unsent until all of them have sent it.
func TestEventsAreEncodedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const codedBytes = 1000
		st := newStore()
		h := NewHub(st, Options{})
		var encoded atomic.Int64
		encode := func([]*mvccpb.Event) []byte { encoded.Add(1); return make([]byte, codedBytes) }
		sent := make(chan struct{})
		for i := range 6 {
			s := h.NewStream()
			if err := s.Create(t.Context(), Request{Key: []byte("a"), PrevKV: i%2 == 0}); err != nil {
				t.Fatal(err)
			}
			go s.Run(t.Context(), func(r Response) error {
				for _, p := range r.Parts {
					p.Coded(encode)
					<-sent
				}
				return nil
			})
		}
		publish(h, st.write(put("a", "1")))
		synctest.Wait()
		bytes := int64(sizeBytes(st.revs[len(st.revs)-1].Events))
		if got := h.unsent.Load(); encoded.Load() != 2 || got != bytes+2*codedBytes {
			t.Errorf("encoded %d times for two kinds of watchers; %d bytes wait, of which %d are no codes", encoded.Load(), got, bytes)
		}
		close(sent)
		synctest.Wait()
		if got := h.unsent.Load(); got != 0 {
			t.Errorf("%d bytes are left", got)
		}
		h.Close()
		synctest.Wait()
	})
}

// Events that came without previous values, since nobody wanted any when they
// were made, reach a watcher that wants them by replay; others get them as they are.
func TestBareEventsAreReplayed(t *testing.T) {
	st := newStore()
	h := NewHub(st, Options{})
	if h.WantsPrevs() {
		t.Error("nobody watches, and previous values are wanted")
	}
	publish(h, st.write(put("a", "1")))
	plain, full := connect(t, h), connect(t, h)
	plain.create(Request{Key: []byte("a")})
	full.create(Request{Key: []byte("a"), PrevKV: true})
	plain.want("0@2 created")
	full.want("0@2 created")
	if !h.WantsPrevs() {
		t.Error("previous values are not wanted")
	}
	bare := st.write(put("a", "2"))
	bare.Bare, bare.Events = true, []*mvccpb.Event{withoutPrev(bare.Events[0])}
	publish(h, bare)
	plain.want("0@3 a=2/3")
	full.want("0@3 a=2/3(was 1)")
	full.close()
	if err := full.s.Create(t.Context(), Request{}); err == nil || h.WantsPrevs() {
		t.Errorf("the stream was closed (%v), and previous values are wanted: %t", err, h.WantsPrevs())
	}
}

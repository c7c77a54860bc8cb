package watch

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// Streams that nobody reads hold a bounded amount together, lose nothing, and
// let go of all when they are read, or closed.
func TestOutboxesShareABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams, revisions, valueBytes, budget = 20, 30, 400, 4000
		st := newStore()
		h := NewHub(st, Options{OutboxesBytes: budget, ReplayBytes: 1 << 20, ReplaysBytes: 1})
		var clients []*client
		for i := range streams {
			c := connect(t, h)
			c.create(Request{Key: fmt.Appendf(nil, "k%d", i)})
			c.want("0@1 created")
			clients = append(clients, c)
		}
		value := strings.Repeat("v", valueBytes)
		for r := range revisions {
			for i := range streams {
				publish(h, st.write(put(fmt.Sprintf("k%d", i), value+fmt.Sprint(r))))
			}
			synctest.Wait()
			// Beyond the budget a stream holds what it is sending, and what came
			// when it held nothing.
			if got := h.unsent.Load(); got > budget+streams*2*(valueBytes+2*eventOverheadBytes) {
				t.Fatalf("%d bytes wait after round %d", got, r)
			}
		}
		if h.Stats().Lagging != streams {
			t.Errorf("%d of %d streams lag", h.Stats().Lagging, streams)
		}
		for _, c := range clients[1:] {
			for r := 0; r < revisions; {
				resp := <-c.resp
				for _, ev := range resp.Events() {
					if got := string(ev.Kv.Value); got != value+fmt.Sprint(r) {
						t.Fatalf("round %d: got the event of %s", r, strings.TrimLeft(got, "v"))
					}
					r++
				}
			}
		}
		clients[0].close()
		synctest.Wait()
		if got, n := h.unsent.Load(), h.replaying.Load(); got != 0 || n != 0 {
			t.Errorf("%d bytes and %d replays are left", got, n)
		}
	})
}

// What streams share counts once, so that they do not lag for it.
func TestSharedEventsCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		h := NewHub(st, Options{OutboxesBytes: 5000})
		for range 50 {
			c := connect(t, h)
			c.create(Request{Key: []byte("k")})
			c.want("0@1 created")
		}
		for range 5 {
			publish(h, st.write(put("k", strings.Repeat("v", 400))))
			synctest.Wait()
		}
		if st := h.Stats(); st.Lagging != 0 || h.unsent.Load() > 5000 {
			t.Errorf("%d streams lag, %d bytes wait", st.Lagging, h.unsent.Load())
		}
	})
}

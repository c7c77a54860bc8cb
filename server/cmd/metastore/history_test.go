package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// keysOfRound is how many keys the clients of a history share at a time.
const keysOfRound = 6

type callKind uint8

const (
	callPut callKind = iota
	callDelete
	callSwap // put if the value is the expected one, else get
	callGet
)

// call is one operation of a client, on one key.
type call struct {
	kind               callKind
	key, value, expect string
	begin, end         int64
	// known: the outcome is known, and what follows is it.
	known bool
	did   bool   // a delete or a swap had an effect
	got   string // of a get or a swap without effect
}

// keyModel is one key: its state is its value, empty for none.
var keyModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		value, c := state.(string), input.(*call)
		switch c.kind {
		case callPut:
			return true, c.value
		case callDelete:
			return !c.known || c.did == (value != ""), ""
		case callSwap:
			if value == c.expect {
				return !c.known || c.did, c.value
			}
			return !c.known || (!c.did && c.got == value), value
		}
		return c.got == value, value
	},
}

// round is the history of some keys, which are in use for a while.
type round struct {
	n     int
	calls sync.WaitGroup
	mu    sync.Mutex
	// byKey is guarded by mu.
	byKey map[string][]*call
}

func (r *round) key(i int) string { return fmt.Sprintf("h/%d/%d", r.n, i) }

// door is where a client asks: at one member or at any of several.
type door struct {
	kv       clientv3.KV
	answered atomic.Int64
	mu       sync.Mutex
	// took is how long each answer took. Guarded by mu.
	took []time.Duration
}

// history is what concurrent clients of one cluster ask and hear. Rounds of
// keys keep each key's history short: a check of it takes exponential time.
type history struct {
	t *testing.T
	// any leads to all members, doors to one each.
	any   *door
	doors map[*member]*door
	began time.Time
	stop  context.CancelFunc
	ctx   context.Context
	// workers ask, settlers check rounds.
	workers, settlers sync.WaitGroup
	values            atomic.Int64
	// patience is how long the clients wait for an answer, in nanoseconds.
	patience       atomic.Int64
	acked, unknown atomic.Int64

	mu sync.Mutex
	// now is the round in use; settled has, for each key of an earlier one, the
	// values that it may hold for good. Guarded by mu.
	now     *round
	settled map[string]map[string]bool
	failed  error
}

// startHistory has clients work until end; each asks whichever member answers.
func startHistory(t *testing.T, workers int, members ...*member) *history {
	t.Helper()
	h := newHistory(t, members)
	for range workers {
		h.workers.Go(func() { h.work(h.any) })
	}
	return h
}

// startHistoryAtEach has some clients work at each member, and at no other.
func startHistoryAtEach(t *testing.T, workers int, members ...*member) *history {
	t.Helper()
	h := newHistory(t, members)
	for _, m := range members {
		d := &door{kv: client(t, m)}
		h.doors[m] = d
		for range workers {
			h.workers.Go(func() { h.work(d) })
		}
	}
	return h
}

func newHistory(t *testing.T, members []*member) *history {
	t.Helper()
	h := &history{t: t, any: &door{kv: client(t, members...)}, doors: map[*member]*door{}, began: time.Now(), settled: map[string]map[string]bool{}, now: newRound(0)}
	h.patience.Store(int64(10 * time.Second))
	h.ctx, h.stop = context.WithCancel(context.Background())
	t.Cleanup(h.end)
	return h
}

func newRound(n int) *round { return &round{n: n, byKey: map[string][]*call{}} }

func (h *history) clock() int64 { return int64(time.Since(h.began)) }

// work is one client: after an answer that did not come it reads until it is
// heard again, so that an outage leaves few calls of unknown outcome.
func (h *history) work(d *door) {
	guess := map[string]string{}
	deaf := false
	for h.ctx.Err() == nil {
		h.mu.Lock()
		r := h.now
		r.calls.Add(1)
		h.mu.Unlock()
		c := h.choose(r.key(rand.IntN(keysOfRound)), guess, deaf)
		h.ask(d, r, c)
		r.calls.Done()
		deaf = !c.known
		if c.known && c.kind != callDelete {
			guess[c.key] = c.value
			if c.kind == callGet || !c.did && c.kind == callSwap {
				guess[c.key] = c.got
			}
		}
		if deaf {
			h.pause()
		}
	}
}

// pause lies between two attempts of a client that is not heard.
func (h *history) pause() {
	select {
	case <-h.ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

func (h *history) choose(key string, guess map[string]string, deaf bool) *call {
	c := &call{key: key, value: fmt.Sprint(h.values.Add(1)), expect: guess[key]}
	switch n := rand.IntN(100); {
	case deaf || n < 35:
		c.kind, c.value = callGet, ""
	case n < 65:
		c.kind = callPut
	case n < 75:
		c.kind = callDelete
	default:
		c.kind = callSwap
	}
	return c
}

// ask makes a call and files it.
func (h *history) ask(d *door, r *round, c *call) {
	ctx, cancel := context.WithTimeout(h.ctx, time.Duration(h.patience.Load()))
	defer cancel()
	c.begin = h.clock()
	err := c.do(ctx, d.kv)
	c.end, c.known = h.clock(), err == nil
	if !c.known {
		h.unknown.Add(1)
		if c.kind == callGet {
			return
		}
		c.end = math.MaxInt64
	} else {
		h.acked.Add(1)
		d.note(time.Duration(c.end - c.begin))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byKey[c.key] = append(r.byKey[c.key], c)
}

func (c *call) do(ctx context.Context, kv clientv3.KV) error {
	switch c.kind {
	case callPut:
		_, err := kv.Put(ctx, c.key, c.value)
		return err
	case callDelete:
		r, err := kv.Delete(ctx, c.key)
		c.did = err == nil && r.Deleted > 0
		return err
	case callSwap:
		is := clientv3.Compare(clientv3.Value(c.key), "=", c.expect)
		if c.expect == "" {
			is = clientv3.Compare(clientv3.CreateRevision(c.key), "=", 0)
		}
		r, err := kv.Txn(ctx).If(is).Then(clientv3.OpPut(c.key, c.value)).Else(clientv3.OpGet(c.key)).Commit()
		if err == nil && !r.Succeeded && len(r.Responses[0].GetResponseRange().Kvs) > 0 {
			c.got = string(r.Responses[0].GetResponseRange().Kvs[0].Value)
		}
		c.did = err == nil && r.Succeeded
		return err
	}
	r, err := kv.Get(ctx, c.key)
	if err == nil && len(r.Kvs) > 0 {
		c.got = string(r.Kvs[0].Value)
	}
	return err
}

// next turns to fresh keys; the ones before are checked meanwhile.
func (h *history) next() {
	h.mu.Lock()
	old := h.now
	h.now = newRound(old.n + 1)
	h.mu.Unlock()
	h.settlers.Go(func() { h.settle(old) })
}

// settle ends a round: when its last call has ended, it reads each key once
// more and has porcupine look for an order that explains all answers.
func (h *history) settle(r *round) {
	r.calls.Wait()
	for i := range keysOfRound {
		final := &call{kind: callGet, key: r.key(i)}
		for {
			h.ask(h.any, r, final)
			if final.known {
				break
			}
			if h.ctx.Err() != nil {
				return // the test has failed, and says why
			}
			h.pause()
		}
		h.check(final.key, r.byKey[final.key], final.got)
	}
}

func (h *history) check(key string, calls []*call, final string) {
	ops := make([]porcupine.Operation, len(calls))
	may := map[string]bool{final: true}
	for i, c := range calls {
		ops[i] = porcupine.Operation{Input: c, Call: c.begin, Output: c, Return: c.end}
		if !c.known {
			may[c.value] = true // it may still come
			if c.kind == callDelete {
				may[""] = true
			}
		}
	}
	result := porcupine.CheckOperationsTimeout(keyModel, ops, time.Minute)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled[key] = may
	if result != porcupine.Ok && h.failed == nil {
		h.failed = fmt.Errorf("the history of %s is not linearizable (%s): %s", key, result, story(calls))
	}
}

func story(calls []*call) (s string) {
	for _, c := range calls {
		s += fmt.Sprintf("\n%+v", *c)
	}
	return s
}

// end stops the clients; what they heard is still to be verified.
func (h *history) end() {
	h.stop()
	h.workers.Wait()
	h.settlers.Wait()
}

// verify settles what is open, ends the clients and wants each of the members
// to hold what the history says.
func (h *history) verify(members ...*member) {
	h.t.Helper()
	h.next()
	h.settlers.Wait()
	h.end()
	if h.failed != nil {
		h.t.Fatal(h.failed)
	}
	for _, m := range members {
		r, err := client(h.t, m).Get(within(h.t, time.Minute), "h/", clientv3.WithPrefix())
		if err != nil {
			h.t.Fatal(err)
		}
		have := map[string]string{}
		for _, kv := range r.Kvs {
			have[string(kv.Key)] = string(kv.Value)
		}
		for key, may := range h.settled {
			if !may[have[key]] {
				h.t.Errorf("%s holds %q under %s, where one of %v belongs", m.name, have[key], key, may)
			}
		}
	}
	if len(h.settled) == 0 || h.acked.Load() == 0 {
		h.t.Fatal("no history was recorded")
	}
}

// progress waits for further answers.
func (h *history) progress(n int64) {
	h.t.Helper()
	h.further(n, "a member", &h.acked)
}

// progressAt waits for further answers of each of the members.
func (h *history) progressAt(n int64, members ...*member) {
	h.t.Helper()
	for _, m := range members {
		h.further(n, m.name, &h.doors[m].answered)
	}
}

func (h *history) further(n int64, who string, answered *atomic.Int64) {
	h.t.Helper()
	before := answered.Load()
	eventually(h.t, 60*time.Second, func() error {
		if got := answered.Load() - before; got < n {
			return fmt.Errorf("%s answered %d of %d further calls", who, got, n)
		}
		return nil
	})
}

func (d *door) note(took time.Duration) {
	d.answered.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took = append(d.took, took)
}

// pace tells how long the members took to answer since it was last asked.
func (h *history) pace(members ...*member) string {
	var took []time.Duration
	for _, m := range members {
		d := h.doors[m]
		d.mu.Lock()
		took = append(took, d.took...)
		d.took = nil
		d.mu.Unlock()
	}
	if len(took) == 0 {
		return "no answer"
	}
	slices.Sort(took)
	at := func(share int) time.Duration { return took[len(took)*share/1000].Round(100 * time.Microsecond) }
	return fmt.Sprintf("%d answers, p50 %s, p99 %s, the slowest %s", len(took), at(500), at(990), took[len(took)-1].Round(time.Millisecond))
}

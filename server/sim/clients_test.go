package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// requestTimeout is how long a client waits.
const requestTimeout = 5 * second

// client is one of those whose histories are checked. It has its own randomness,
// so that what it does stays the same when something else is left out.
type client struct {
	id  int
	rng *rand.Rand
	// count numbers what it does.
	count int
}

// clients are what all of them know.
type clients struct {
	history []*op
	// ackedRev is the highest revision in any answer.
	ackedRev int64
	values   int
	// guesses are the newest values that somebody saw, for transactions to
	// expect.
	guesses [maxKeys]guess
	pending int
}

// guess is a value and the revision that put it, 0 when that is not known.
type guess struct {
	value string
	rev   int64
}

func (w *world) beginClients() {
	for i := range w.p.clients {
		c := &client{id: i, rng: rand.New(rand.NewPCG(w.seed, uint64(1000+i)))}
		w.after(w.about(w.p.pause), func() { w.act(c) })
	}
}

// act is a client's next operation.
func (w *world) act(c *client) {
	if w.calm {
		return
	}
	c.count++
	n, pause := c.rng.IntN(100), int64(c.rng.ExpFloat64()*float64(w.p.pause))
	again := func(*op) { w.after(min(pause, 20*w.p.pause), func() { w.act(c) }) }
	o := w.newOp(n, c.rng)
	o.then = again
	r := w.anyProcess()
	if r == nil || w.left(c.id, c.count) {
		again(nil)
		return
	}
	if n == 0 {
		w.peek(r)
		again(nil)
		return
	}
	w.call(r, o)
}

// newOp is a random operation.
func (w *world) newOp(n int, rng *rand.Rand) *op {
	key, other := rng.IntN(w.p.keys), rng.IntN(w.p.keys)
	g := w.clients.guesses[key]
	switch {
	case n < 30:
		return &op{kind: opPut, writes: []pair{{key, w.freshValue()}}}
	case n < 38:
		return &op{kind: opDelete, writes: []pair{{key, ""}}}
	case n < 50:
		return &op{kind: opSwap, compares: []compare{{key: key, guess: g}}, writes: []pair{{key, w.freshValue()}}, reads: []int{key}}
	case n < 75 || !w.p.txns:
		return &op{kind: opGet, reads: []int{key}}
	case n < 90:
		o := &op{kind: opTxn, nested: rng.IntN(5) == 0, reads: w.allKeys()}
		o.compares = []compare{{key: key, guess: g, target: rng.IntN(3)}}
		if rng.IntN(3) == 0 && other != key {
			o.compares = append(o.compares, compare{key: other, guess: w.clients.guesses[other]})
		}
		o.writes = []pair{{other, w.freshValue()}}
		if key != other {
			o.writes = append(o.writes, pair{key, []string{"", w.freshValue()}[rng.IntN(2)]})
		}
		return o
	}
	return &op{kind: opRange, reads: w.allKeys()}
}

func (w *world) allKeys() (all []int) {
	for k := range w.p.keys {
		all = append(all, k)
	}
	return all
}

func (w *world) freshValue() string {
	w.clients.values++
	return fmt.Sprintf("v%d", w.clients.values)
}

// peek is a read that asks no other member, of now or of an earlier revision:
// whatever the member knows has to be what was at that revision.
func (w *world) peek(r *process) {
	m := r.machine.Load()
	rev := max(0, m.KV().Rev()-w.rng.Int64N(10))
	resp, err := m.Range(&pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Revision: rev, Serializable: true})
	if errors.Is(err, mvcc.ErrCompacted) && rev < m.KV().CompactRev() {
		return
	}
	if err != nil {
		w.failf("member %d: read at revision %d: %v", r.m.id, rev, err)
	}
	if rev == 0 {
		rev = resp.Header.Revision
	}
	var got kvs
	r.fill(&got, resp)
	for k := range w.p.keys {
		if want := w.truth.at(keyName(k), rev); got[k].value != want {
			w.failf("member %d has %s = %q at revision %d, which is %q there", r.m.id, keyName(k), got[k].value, rev, want)
		}
	}
}

// anyProcess is a member that runs, nil when none does.
func (w *world) anyProcess() *process {
	var up []*process
	for _, m := range w.members {
		if m.process != nil && m.process.replica != nil {
			up = append(up, m.process)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[w.rng.IntN(len(up))]
}

// call hands an operation to a member.
func (w *world) call(r *process, o *op) {
	o.process, o.floor, o.call = r, w.clients.ackedRev, w.stamp()
	w.clients.pending++
	w.tracef("%d is asked: %s", r.m.id, o)
	if o.reading() {
		done, err := r.replica.Reads.Add()
		if err != nil {
			w.failf("read: %v", err)
		}
		if o.read = done; w.planted == plantStaleRead {
			o.read = answered()
		}
	} else {
		waiter, err := r.replica.Proposals.Add(o.command(w))
		if err != nil {
			w.failf("propose: %v", err)
		}
		o.waiter = waiter
	}
	r.ops = append(r.ops, o)
	r.wake(raftOwner)
	w.after(requestTimeout, func() {
		if !o.ended {
			if o.waiter != nil {
				r.replica.Proposals.Forget(o.waiter)
			}
			w.end(o)
		}
	})
}

// answered is a round of reads that asks nobody.
func answered() <-chan error {
	c := make(chan error, 1)
	c <- nil
	return c
}

func command(w *world, k state.Kind, m proto.Message) state.Command {
	b, err := proto.Marshal(m)
	if err != nil {
		w.failf("encode a command: %v", err)
	}
	return state.Command{Kind: k, Body: b}
}

// answerClients looks for answers after each step of a process.
func (r *process) answerClients() {
	for _, o := range slices.Clone(r.ops) {
		switch {
		case o.ended:
		case o.read != nil:
			select {
			case err := <-o.read:
				r.answerRead(o, err)
			default: // not yet
			}
		default:
			select {
			case reply := <-o.waiter.Done():
				r.answerWrite(o, reply)
			default: // not yet
			}
		}
	}
	r.ops = slices.DeleteFunc(r.ops, func(o *op) bool { return o.ended })
	r.goOnChanging()
	r.goOnRenewing()
}

func (r *process) answerRead(o *op, err error) {
	var resp *pb.RangeResponse
	if err == nil {
		resp, err = r.machine.Load().Range(o.rangeRequest())
	}
	if err != nil {
		r.w.failf("member %d: %s: %v", r.m.id, o, err)
	}
	o.known, o.rev = true, resp.Header.Revision
	r.fill(&o.got, resp)
	r.w.stats[readsCount]++
	r.w.end(o)
}

func (r *process) answerWrite(o *op, reply replica.Reply) {
	w := r.w
	if reply.Err != nil {
		w.failf("member %d answers %s with %v", r.m.id, o, reply.Err)
	}
	o.known, o.index, o.term = true, reply.Index, reply.Term
	switch resp := reply.Result.Response.(type) {
	case *pb.PutResponse:
		o.rev, o.did = resp.Header.Revision, true
	case *pb.DeleteRangeResponse:
		o.rev, o.did = resp.Header.Revision, resp.Deleted > 0
	case *pb.TxnResponse:
		o.rev, o.did = resp.Header.Revision, resp.Succeeded
		if o.sees() {
			r.fill(&o.got, resp.Responses[len(resp.Responses)-1].GetResponseRange())
		}
	default:
		o.did = reply.Result.Err == nil
		if o.kind != opOther {
			w.failf("member %d answers %s with %v and %v", r.m.id, o, resp, reply.Result.Err)
		}
	}
	if o.kind != opOther {
		w.stats[ackedCount]++
	}
	w.end(o)
}

// fill takes the pairs of a range.
func (r *process) fill(got *kvs, resp *pb.RangeResponse) {
	for _, kv := range resp.Kvs {
		var k int
		if _, err := fmt.Sscanf(string(kv.Key), "k%d", &k); err != nil || k >= r.w.p.keys {
			r.w.failf("member %d answers with the key %q", r.m.id, kv.Key)
		}
		got[k] = guess{string(kv.Value), kv.ModRevision}
	}
}

// end closes an operation, with or without an outcome.
func (w *world) end(o *op) {
	o.ended, o.ret = true, w.stamp()
	w.clients.pending--
	w.tracef("%d answers %s: known %v, revision %d, did %v, got %v", o.process.m.id, o, o.known, o.rev, o.did, o.got)
	if o.kind != opOther {
		w.clients.history = append(w.clients.history, o)
		if o.known {
			w.checkAnswer(o)
			w.learn(o)
		} else if !o.reading() {
			w.stats[unknownCount]++
		}
	}
	if o.then != nil {
		o.then(o)
	}
}

// learn keeps what an answer tells.
func (w *world) learn(o *op) {
	c := &w.clients
	c.ackedRev = max(c.ackedRev, o.rev)
	if o.sees() {
		for _, k := range o.reads {
			c.guesses[k] = o.got[k]
		}
	}
	if o.did {
		for _, p := range o.writes {
			c.guesses[p.key] = guess{p.value, o.rev}
		}
	}
}

// checkAnswer compares an answer with what was acknowledged before the call and
// with the revisions that the cluster made.
func (w *world) checkAnswer(o *op) {
	wrote := o.did && len(o.writes) > 0
	if o.rev < o.floor || (wrote && o.rev == o.floor) {
		w.failf("%s on member %d answers from revision %d, but %d was acknowledged before the call", o, o.process.m.id, o.rev, o.floor)
	}
	now := func(k int) string { return w.truth.at(keyName(k), o.rev) }
	before := func(k int) string { return w.truth.at(keyName(k), o.rev-1) }
	wrong := func(k int, what string) {
		w.failf("%s on member %d answers at revision %d: did %v, got %v; %s %s: it is %q there and %q before",
			o, o.process.m.id, o.rev, o.did, o.got, keyName(k), what, now(k), before(k))
	}
	if o.sees() {
		for _, k := range o.reads {
			if o.got[k].value != now(k) {
				wrong(k, "was read")
			}
		}
	}
	at := now
	if wrote {
		at = before
		for _, p := range o.writes {
			if now(p.key) != p.value || (o.kind == opDelete && before(p.key) == "") {
				wrong(p.key, "was written")
			}
		}
	} else if o.kind == opDelete && now(o.writes[0].key) != "" {
		wrong(o.writes[0].key, "was not there")
	}
	hold := !slices.ContainsFunc(o.compares, func(c compare) bool { return at(c.key) != c.guess.value })
	if len(o.compares) > 0 && hold != o.did {
		wrong(o.compares[0].key, "was compared")
	}
}

// lostProcess ends what waited for an answer of a process that is gone.
func (w *world) lostProcess(r *process) {
	for _, o := range r.ops {
		if !o.ended {
			w.end(o)
		}
	}
	r.ops = nil
	r.changing = nil
	r.renewals = nil
}

package sim

import (
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// requestTimeout is how long a client waits.
const requestTimeout = 5 * second

type opKind uint8

const (
	opPut opKind = iota
	opDelete
	opSwap // put if the value is the expected one, else get
	opGet
	opOther // not in the history
)

func (k opKind) String() string { return [...]string{"put", "delete", "swap", "get", "other"}[k] }

// op is one operation of a client.
type op struct {
	kind               opKind
	key, value, expect string
	own                state.Command // of an opOther

	process *process
	waiter  *replica.Waiter
	read    <-chan error
	// floor is the highest revision acknowledged to anyone before the call.
	floor     int64
	call, ret int64
	ended     bool
	// known: the outcome is known, and what follows is it.
	known       bool
	rev         int64
	index, term uint64
	did         bool   // a delete or a swap had an effect
	got         string // of a get or a swap without effect
	then        func(*op)
}

// clients are those whose histories are checked.
type clients struct {
	history []*op
	// ackedRev is the highest revision in any answer.
	ackedRev int64
	values   int
	// guesses are the newest values that somebody saw, for swaps to expect.
	guesses map[string]string
	pending int
}

func (w *world) beginClients() {
	w.clients.guesses = map[string]string{}
	for range w.p.clients {
		w.after(w.about(w.p.pause), w.act)
	}
}

// act is a client's next operation.
func (w *world) act() {
	if w.calm {
		return
	}
	again := func(*op) { w.after(w.about(w.p.pause), w.act) }
	r := w.anyProcess()
	if r == nil {
		again(nil)
		return
	}
	o := &op{key: fmt.Sprintf("k%d", w.rng.IntN(w.p.keys)), then: again}
	switch n := w.rng.IntN(100); {
	case n < 40:
		o.kind, o.value = opPut, w.freshValue()
	case n < 50:
		o.kind = opDelete
	case n < 65:
		o.kind, o.value, o.expect = opSwap, w.freshValue(), w.clients.guesses[o.key]
	default:
		o.kind = opGet
	}
	w.call(r, o)
}

func (w *world) freshValue() string {
	w.clients.values++
	return fmt.Sprintf("v%d", w.clients.values)
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
	w.tracef("%d is asked: %s %s %s %s", r.m.id, o.kind, o.key, o.value, o.expect)
	if o.kind == opGet {
		done, err := r.replica.Reads.Add()
		if err != nil {
			w.failf("read: %v", err)
		}
		if o.read = done; w.planted == plantStaleRead {
			answered := make(chan error, 1)
			answered <- nil
			o.read = answered
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

func (o *op) command(w *world) state.Command {
	switch o.kind {
	case opPut:
		return command(w, state.KindPut, &pb.PutRequest{Key: []byte(o.key), Value: []byte(o.value)})
	case opDelete:
		return command(w, state.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte(o.key)})
	case opSwap:
		return command(w, state.KindTxn, o.swap())
	}
	return o.own
}

// other is an operation outside of the history.
func other(c state.Command, then func(*op)) *op {
	return &op{kind: opOther, own: c, then: then}
}

func command(w *world, k state.Kind, m proto.Message) state.Command {
	b, err := proto.Marshal(m)
	if err != nil {
		w.failf("encode a command: %v", err)
	}
	return state.Command{Kind: k, Body: b}
}

// swap is the transaction of an opSwap.
func (o *op) swap() *pb.TxnRequest {
	key := []byte(o.key)
	compare := &pb.Compare{Key: key, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte(o.expect)}}
	if o.expect == "" {
		compare.Target, compare.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{}
	}
	return &pb.TxnRequest{
		Compare: []*pb.Compare{compare},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: []byte(o.value)}}}},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}},
	}
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
	if err != nil {
		r.w.failf("member %d: read of %s: %v", r.m.id, o.key, err)
	}
	resp, err := r.machine.Load().Range(&pb.RangeRequest{Key: []byte(o.key)})
	if err != nil {
		r.w.failf("member %d: read of %s: %v", r.m.id, o.key, err)
	}
	o.known, o.rev = true, resp.Header.Revision
	if len(resp.Kvs) > 0 {
		o.got = string(resp.Kvs[0].Value)
	}
	r.w.stats.reads++
	r.w.clients.guesses[o.key] = o.got
	r.w.end(o)
}

func (r *process) answerWrite(o *op, reply replica.Reply) {
	w := r.w
	if reply.Err != nil {
		w.failf("member %d answers %s %s with %v", r.m.id, o.kind, o.key, reply.Err)
	}
	o.known, o.index, o.term = true, reply.Index, reply.Term
	switch resp := reply.Result.Response.(type) {
	case *pb.PutResponse:
		o.rev, o.did = resp.Header.Revision, true
	case *pb.DeleteRangeResponse:
		o.rev, o.did = resp.Header.Revision, resp.Deleted > 0
	case *pb.TxnResponse:
		o.rev, o.did = resp.Header.Revision, resp.Succeeded
		if kvs := resp.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
			o.got = string(kvs[0].Value)
		}
		w.clients.guesses[o.key] = o.got
	default:
		o.did = reply.Result.Err == nil
		if o.kind != opOther {
			w.failf("member %d answers %s %s with %v and %v", r.m.id, o.kind, o.key, resp, reply.Result.Err)
		}
	}
	if o.kind == opPut || (o.kind == opSwap && o.did) {
		w.clients.guesses[o.key] = o.value
	}
	if o.kind != opOther {
		w.stats.acked++
	}
	w.end(o)
}

// end closes an operation, with or without an outcome.
func (w *world) end(o *op) {
	o.ended, o.ret = true, w.stamp()
	w.clients.pending--
	w.tracef("%d answers %s %s: known %v, revision %d, did %v, got %s", o.process.m.id, o.kind, o.key, o.known, o.rev, o.did, o.got)
	if o.kind != opOther {
		w.clients.history = append(w.clients.history, o)
		if o.known {
			w.checkAnswer(o)
			w.clients.ackedRev = max(w.clients.ackedRev, o.rev)
		} else if o.kind != opGet {
			w.stats.unknown++
		}
	}
	if o.then != nil {
		o.then(o)
	}
}

// checkAnswer compares an answer with what was acknowledged before the call and
// with the revisions that the cluster made.
func (w *world) checkAnswer(o *op) {
	wrote := o.kind == opPut || (o.kind != opGet && o.did)
	if o.rev < o.floor || (wrote && o.rev == o.floor) {
		w.failf("%s %s on member %d answers from revision %d, but %d was acknowledged before the call", o.kind, o.key, o.process.m.id, o.rev, o.floor)
	}
	now, before := w.truth.at(o.key, o.rev), w.truth.at(o.key, o.rev-1)
	switch {
	case o.kind == opGet && o.got != now,
		o.kind == opPut && o.value != now,
		o.kind == opDelete && o.did && (now != "" || before == ""),
		o.kind == opDelete && !o.did && now != "",
		o.kind == opSwap && o.did && (now != o.value || before != o.expect),
		o.kind == opSwap && !o.did && (now != o.got || now == o.expect):
		w.failf("%s %s (value %q, expected %q) on member %d answers at revision %d: did %v, got %q; it is %q there and %q before",
			o.kind, o.key, o.value, o.expect, o.process.m.id, o.rev, o.did, o.got, now, before)
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

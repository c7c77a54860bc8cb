package sim

import (
	"fmt"
	"math"
	"slices"

	"github.com/anishathalye/porcupine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// maxKeys is how many keys the clients use at most.
const maxKeys = 5

func keyName(k int) string { return fmt.Sprintf("k%d", k) }

// kvs are values by key, empty for none.
type kvs [maxKeys]guess

type opKind uint8

const (
	opPut opKind = iota
	opDelete
	opSwap // a transaction on one key, which reads when it does not write
	opTxn  // a transaction on several keys, which always reads
	opGet
	opRange
	opOther // not in the history
)

func (k opKind) String() string {
	return [...]string{"put", "delete", "swap", "txn", "get", "range", "other"}[k]
}

// pair is a key and what is written to it; the empty value deletes.
type pair struct {
	key   int
	value string
}

// compare wants a key to have a value, or not to be there. Values are never put
// twice, so that the revision that put it says the same; target chooses.
type compare struct {
	key    int
	guess  guess
	target int
}

// op is one operation of a client: when all compares hold, it writes; and it
// reads.
type op struct {
	kind     opKind
	compares []compare
	writes   []pair
	reads    []int
	nested   bool          // the writes are in a transaction within
	own      state.Command // of an opOther

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
	did         bool // it wrote
	got         kvs
	then        func(*op)
}

func (o *op) String() string {
	s := o.kind.String()
	for _, c := range o.compares {
		s += fmt.Sprintf(" %s=%q?", keyName(c.key), c.guess.value)
	}
	for _, p := range o.writes {
		s += fmt.Sprintf(" %s:=%q", keyName(p.key), p.value)
	}
	for _, k := range o.reads {
		s += " " + keyName(k)
	}
	return s
}

// reading operations write nothing and ask for a round of reads.
func (o *op) reading() bool { return o.kind == opGet || o.kind == opRange }

// sees tells whether the answer has what was read.
func (o *op) sees() bool { return o.reading() || o.kind == opTxn || (o.kind == opSwap && !o.did) }

// other is an operation outside of the history.
func other(c state.Command, then func(*op)) *op {
	return &op{kind: opOther, own: c, then: then}
}

func (o *op) rangeRequest() *pb.RangeRequest {
	if len(o.reads) == 1 && o.kind != opRange {
		return &pb.RangeRequest{Key: []byte(keyName(o.reads[0]))}
	}
	return &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
}

func (o *op) command(w *world) state.Command {
	switch o.kind {
	case opPut:
		return command(w, state.KindPut, o.writes[0].request().GetRequestPut())
	case opDelete:
		return command(w, state.KindDeleteRange, o.writes[0].request().GetRequestDeleteRange())
	case opSwap, opTxn:
		t := o.transaction()
		if w.planted == plantStaleCompare {
			judgeEarly(o, t)
		}
		return command(w, state.KindTxn, t)
	}
	return o.own
}

// judgeEarly is planted: it evaluates the compares where the client asked, on
// what that member has applied, and proposes what comes out.
func judgeEarly(o *op, t *pb.TxnRequest) {
	hold := true
	for _, c := range o.compares {
		res, err := o.process.machine.Load().Range(&pb.RangeRequest{Key: []byte(keyName(c.key))})
		value := ""
		if err == nil && len(res.Kvs) > 0 {
			value = string(res.Kvs[0].Value)
		}
		hold = hold && value == c.guess.value
	}
	t.Compare = nil
	if !hold {
		t.Compare = []*pb.Compare{{Key: []byte("k"), Target: pb.Compare_VERSION, Result: pb.Compare_LESS, TargetUnion: &pb.Compare_Version{}}}
	}
}

func (o *op) transaction() *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for _, c := range o.compares {
		t.Compare = append(t.Compare, c.request())
	}
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: o.rangeRequest()}}
	for _, p := range o.writes {
		t.Success = append(t.Success, p.request())
	}
	if o.nested {
		t.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: t.Success}}}}
	}
	if o.kind == opTxn {
		t.Success = append(t.Success, read)
	}
	t.Failure = []*pb.RequestOp{read}
	return t
}

func (p pair) request() *pb.RequestOp {
	key := []byte(keyName(p.key))
	if p.value == "" {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: []byte(p.value)}}}
}

func (c compare) request() *pb.Compare {
	p := &pb.Compare{Key: []byte(keyName(c.key))}
	switch {
	case c.guess.value == "" && c.target == 0:
		p.Target, p.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{}
	case c.guess.value == "" && c.target == 1:
		p.Target, p.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{}
	case c.guess.value == "":
		p.Target, p.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{}
	case c.target == 2:
		p.Target, p.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: c.guess.rev}
	default:
		p.Target, p.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: []byte(c.guess.value)}
	}
	return p
}

// checkHistory asks porcupine for a linearization: of each key's history where
// no transaction connects them.
func (w *world) checkHistory() {
	parts := map[int][]porcupine.Operation{}
	for _, o := range w.clients.history {
		ret := o.ret
		if !o.known {
			// A write whose outcome is not known took effect before somebody
			// applied it; one that nobody applied had none, and leaving it out
			// keeps the search short.
			applied, ok := w.appliedAt(o)
			if o.reading() || !ok {
				continue
			}
			ret = max(applied, o.call+1)
		}
		part := 0
		if !w.p.txns {
			part = o.keys()[0]
		}
		parts[part] = append(parts[part], porcupine.Operation{Input: o, Call: o.call, Output: o, Return: ret})
	}
	for part := range maxKeys {
		switch porcupine.CheckOperationsTimeout(model, parts[part], checkTime) {
		case porcupine.Illegal:
			w.failf("the history of key %d is not linearizable (all keys: %v)", part, w.p.txns)
		case porcupine.Unknown:
			w.stats[undecidedCount]++
		}
	}
}

// appliedAt is when somebody first applied a write. A delete can be any of those
// that nobody else answers for, and may have had no effect: it is left to
// porcupine to put it behind everything.
func (w *world) appliedAt(o *op) (stamp int64, ok bool) {
	for _, p := range o.writes {
		if p.value != "" {
			stamp = w.truth.values[p.value]
			return stamp, stamp != 0
		}
	}
	return math.MaxInt64, len(o.writes) > 0 && w.unclaimed(o.writes[0].key)
}

// unclaimed: a key was deleted and no operation with a known outcome did it.
func (w *world) unclaimed(key int) bool {
	claimed := map[int64]bool{}
	for _, o := range w.clients.history {
		for _, p := range o.writes {
			if o.known && o.did && p == (pair{key, ""}) {
				claimed[o.rev] = true
			}
		}
	}
	return slices.ContainsFunc(w.truth.versions[keyName(key)], func(v version) bool { return v.gone && !claimed[v.rev] })
}

func (o *op) keys() []int {
	keys := append([]int(nil), o.reads...)
	for _, p := range o.writes {
		keys = append(keys, p.key)
	}
	return keys
}

// model is all keys together.
var model = porcupine.Model{
	Init: func() any { return [maxKeys]string{} },
	Step: func(state, input, _ any) (bool, any) {
		before, o := state.([maxKeys]string), input.(*op)
		hold := true
		for _, c := range o.compares {
			hold = hold && before[c.key] == c.guess.value
		}
		after := before
		if hold {
			for _, p := range o.writes {
				after[p.key] = p.value
			}
		}
		return !o.known || o.fits(before, after, hold), after
	},
}

// fits tells whether an answer is right between two states.
func (o *op) fits(before, after [maxKeys]string, hold bool) bool {
	switch {
	case o.kind == opDelete:
		return o.did == (before[o.writes[0].key] != "")
	case len(o.writes) > 0 && o.did != hold:
		return false
	case !o.sees():
		return true
	}
	for _, k := range o.reads {
		if o.got[k].value != after[k] {
			return false
		}
	}
	return true
}

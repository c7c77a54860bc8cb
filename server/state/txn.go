package state

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/mvcc"
)

// A transaction runs in three passes, as in etcd: all compares, also those of
// nested transactions, are evaluated on the state before it; then the requests
// of the branches taken are checked on that state, so that a transaction that
// fails changes nothing; then they are executed in order, and each sees the
// effects of the ones before it.

// branch is what the compares of one transaction chose.
type branch struct {
	succeeded bool
	ops       []*pb.RequestOp
	// nested has the branch of each transaction among ops, in order.
	nested []*branch
}

// choose evaluates the compares of a transaction and of those nested in the
// branch that it takes.
func choose(from ranger, t *pb.TxnRequest) (*branch, error) {
	ok, err := allHold(from, t.Compare)
	if err != nil {
		return nil, err
	}
	b := &branch{succeeded: ok, ops: t.Failure}
	if ok {
		b.ops = t.Success
	}
	for _, op := range b.ops {
		inner := op.GetRequestTxn()
		if inner == nil {
			continue
		}
		n, err := choose(from, inner)
		if err != nil {
			return nil, err
		}
		b.nested = append(b.nested, n)
	}
	return b, nil
}

func allHold(from ranger, compares []*pb.Compare) (bool, error) {
	for _, c := range compares {
		if ok, err := holds(from, c); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// holds evaluates one compare on every key of its range. A range without a key
// compares as one key whose fields are zero; a value that is not there does not
// compare as an empty one, but fails.
func holds(from ranger, c *pb.Compare) (bool, error) {
	res, err := from.Range(c.Key, c.RangeEnd, mvcc.RangeOptions{KeysOnly: needsKeyOnly(c.Target)})
	if err != nil {
		return false, fmt.Errorf("compare: %w", err)
	}
	if len(res.KVs) == 0 {
		return c.Target != pb.Compare_VALUE && holdsFor(c, &mvccpb.KeyValue{}), nil
	}
	for _, kv := range res.KVs {
		if !holdsFor(c, kv) {
			return false, nil
		}
	}
	return true, nil
}

// needsKeyOnly tells whether the index alone knows the compared field.
func needsKeyOnly(t pb.Compare_CompareTarget) bool {
	return t == pb.Compare_VERSION || t == pb.Compare_CREATE || t == pb.Compare_MOD
}

func holdsFor(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	var order int
	switch c.Target {
	case pb.Compare_VALUE:
		order = bytes.Compare(kv.Value, c.GetValue())
	case pb.Compare_CREATE:
		order = cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		order = cmp.Compare(kv.ModRevision, c.GetModRevision())
	case pb.Compare_VERSION:
		order = cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_LEASE:
		order = cmp.Compare(kv.Lease, c.GetLease())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return order == 0
	case pb.Compare_NOT_EQUAL:
		return order != 0
	case pb.Compare_GREATER:
		return order > 0
	case pb.Compare_LESS:
		return order < 0
	}
	return true
}

// checkRevision says whether a range inside a transaction can be read.
func checkRevision(rev, current, compacted int64) error {
	switch {
	case rev == 0:
		return nil
	case rev > current:
		return mvcc.ErrFutureRev
	case rev < compacted:
		return mvcc.ErrCompacted
	}
	return nil
}

// IsReadOnly tells whether ReadTxn answers a transaction without a proposal: it
// holds ranges only. One with a transaction nested in it counts as writing, as in
// etcd, also when that has ranges only: while there is a CORRUPT alarm, it is
// refused.
func IsReadOnly(t *pb.TxnRequest) bool {
	return rangesOnly(t.Success) && rangesOnly(t.Failure)
}

func rangesOnly(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		if op.GetRequestRange() == nil {
			return false
		}
	}
	return true
}

// errNotReadOnly guards against a caller that did not ask IsReadOnly.
var errNotReadOnly = errors.New("state: transaction writes")

// ReadTxn answers a read-only transaction from one published revision. Errors
// as those of Range.
func (m *Machine) ReadTxn(t *pb.TxnRequest) (*pb.TxnResponse, error) {
	return m.ReadTxnWithin(t, nil)
}

// ReadTxnWithin is ReadTxn for an answer that may be too large.
func (m *Machine) ReadTxnWithin(t *pb.TxnRequest, grow Grow) (*pb.TxnResponse, error) {
	if !IsReadOnly(t) {
		return nil, errNotReadOnly
	}
	for {
		view := pinned{kv: m.kv, rev: m.kv.Rev(), grow: grow}
		resp, err := readTxn(view, t, m.kv.CompactRev())
		if errors.Is(err, mvcc.ErrCompacted) && view.rev < m.kv.CompactRev() {
			continue // compacted past the pinned revision meanwhile: take a newer one
		}
		return resp, err
	}
}

func readTxn(view pinned, t *pb.TxnRequest, compacted int64) (*pb.TxnResponse, error) {
	b, err := choose(view, t)
	if err != nil {
		return nil, err
	}
	for _, op := range b.ops { // any bad revision is found before anything is read, as in etcd
		if err := checkRevision(op.GetRequestRange().Revision, view.rev, compacted); err != nil {
			return nil, err
		}
	}
	resp := newTxnResponse(b)
	resp.Header.Revision = view.rev
	for i, op := range b.ops {
		r, err := rangeFrom(view, op.GetRequestRange())
		if err != nil {
			return nil, err
		}
		resp.Responses[i] = rangeOp(r)
	}
	return resp, nil
}

// newTxnResponse makes a response whose header has no revision yet; that of a
// nested transaction keeps none, as in etcd.
func newTxnResponse(b *branch) *pb.TxnResponse {
	return &pb.TxnResponse{
		Header:    &pb.ResponseHeader{},
		Succeeded: b.succeeded,
		Responses: make([]*pb.ResponseOp, len(b.ops)),
	}
}

func rangeOp(r *pb.RangeResponse) *pb.ResponseOp {
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: r}}
}

func txnOp(r *pb.TxnResponse) *pb.ResponseOp {
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: r}}
}

// pinned reads a store as it was at one revision.
type pinned struct {
	kv   *mvcc.Store
	rev  int64
	grow Grow
}

func (p pinned) Range(key, end []byte, o mvcc.RangeOptions) (mvcc.RangeResult, error) {
	if o.Rev <= 0 {
		o.Rev = p.rev
	}
	if o.Rev > p.rev {
		return mvcc.RangeResult{}, mvcc.ErrFutureRev
	}
	o.Grow = p.grow
	res, err := p.kv.Range(key, end, o)
	res.Rev = p.rev
	return res, err
}

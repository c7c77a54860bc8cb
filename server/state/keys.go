package state

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/mvcc"
)

// change is one command's changes of keys; they are one revision.
type change struct {
	*applier
	// dirty is true when something was staged: the command makes a revision.
	dirty bool
}

func (a *applier) begin() *change {
	a.w.Begin()
	a.now = change{applier: a}
	return &a.now
}

// end finishes the command and keeps its events for publication (invariant 5).
func (c *change) end() {
	rev, evs := c.w.End()
	c.rev = rev
	if len(evs) > 0 {
		c.events = append(c.events, RevisionEvents{Rev: rev, Events: evs, Bare: c.bare})
	}
}

// revision is what the command's responses carry: the new revision once it
// changed something, and else the current one.
func (c *change) revision() int64 {
	if c.dirty {
		return c.w.Rev() + 1
	}
	return c.w.Rev()
}

func (c *change) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: c.revision()} }

// header is that of a command that changes no keys.
func (a *applier) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: a.rev} }

func (a *applier) put(body []byte) (proto.Message, error) {
	r := &a.request
	if err := decodePut(body, r); err != nil {
		return nil, err
	}
	if err := a.checkAlarms(true); err != nil {
		return nil, err
	}
	if err := a.auth.CheckPut(a.by, r, a.leaseKeys); err != nil {
		return nil, err
	}
	c := a.begin()
	defer c.end()
	if err := c.checkPut(r); err != nil {
		return nil, err
	}
	return c.put(r)
}

// checkAlarms refuses a command while an alarm is on. adds tells that it would
// add data.
func (a *applier) checkAlarms(adds bool) error {
	if a.cluster.hasAlarm(pb.AlarmType_CORRUPT) {
		return ErrCorrupt
	}
	if adds && a.cluster.hasAlarm(pb.AlarmType_NOSPACE) {
		return ErrNoSpace
	}
	return nil
}

// checkPut says whether a put can be executed on the current state.
func (c *change) checkPut(r *pb.PutRequest) error {
	if r.Lease != 0 {
		if _, ok := c.leases.Lookup(lease.ID(r.Lease)); !ok {
			return lease.ErrNotFound
		}
	}
	if !r.IgnoreValue && !r.IgnoreLease {
		return nil
	}
	prev, err := c.previous(r.Key)
	if err == nil && prev == nil {
		return ErrKeyNotFound
	}
	return err
}

// previous is the current pair of a key, nil when there is none.
func (c *change) previous(key []byte) (*mvccpb.KeyValue, error) {
	res, err := c.w.Range(key, nil, mvcc.RangeOptions{})
	if err != nil {
		return nil, fmt.Errorf("read previous pair: %w", err)
	}
	if len(res.KVs) == 0 {
		return nil, nil
	}
	return res.KVs[0], nil
}

// put executes a put that checkPut accepted.
func (c *change) put(r *pb.PutRequest) (*pb.PutResponse, error) {
	resp := newPutResponse()
	value, leaseID := r.Value, r.Lease
	if r.PrevKv || r.IgnoreValue || r.IgnoreLease {
		prev, err := c.previous(r.Key)
		if err != nil {
			return nil, err
		}
		if r.IgnoreValue {
			value = prev.GetValue()
		}
		if r.IgnoreLease {
			leaseID = prev.GetLease()
		}
		if r.PrevKv {
			resp.PrevKv = prev
		}
	}
	before := c.w.Put(r.Key, value, leaseID)
	c.dirty = true
	if err := c.moveLease(r.Key, lease.ID(before), lease.ID(leaseID)); err != nil {
		return nil, err
	}
	resp.Header.Revision = c.revision()
	return resp, nil
}

// moveLease detaches an overwritten key from the lease that it had.
func (c *change) moveLease(key []byte, from, to lease.ID) error {
	if from == to {
		return nil
	}
	if from != 0 {
		c.leases.Detach(from, key)
	}
	if to == 0 {
		return nil
	}
	if err := c.leases.Attach(to, key); err != nil {
		// Not a result: the put was checked, and is staged. The text alone is
		// kept, so that no caller takes it for one.
		return fmt.Errorf("attach %q to checked lease %x: %s", key, int64(to), err)
	}
	return nil
}

func (a *applier) deleteRange(body []byte) (proto.Message, error) {
	r := &pb.DeleteRangeRequest{}
	if err := decode(body, r); err != nil {
		return nil, err
	}
	if err := a.checkAlarms(false); err != nil {
		return nil, err
	}
	if err := a.auth.CheckDelete(a.by, r); err != nil {
		return nil, err
	}
	c := a.begin()
	defer c.end()
	return c.deleteRange(r)
}

func (c *change) deleteRange(r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	resp := &pb.DeleteRangeResponse{}
	if r.PrevKv {
		res, err := c.w.Range(r.Key, r.RangeEnd, mvcc.RangeOptions{})
		if err != nil {
			return nil, fmt.Errorf("read previous pairs: %w", err)
		}
		resp.PrevKvs = res.KVs
	}
	resp.Deleted = c.delete(r.Key, r.RangeEnd)
	resp.Header = c.header()
	return resp, nil
}

// delete removes keys and detaches them.
func (c *change) delete(key, end []byte) int64 {
	deleted, n := c.w.DeleteRange(key, end)
	c.dirty = c.dirty || n > 0
	for _, d := range deleted {
		if d.Lease != 0 {
			c.leases.Detach(lease.ID(d.Lease), d.Key)
		}
	}
	return n
}

func (a *applier) compact(body []byte) (proto.Message, error) {
	r := &pb.CompactionRequest{}
	if err := decode(body, r); err != nil {
		return nil, err
	}
	if err := a.checkAlarms(false); err != nil {
		return nil, err
	}
	if err := a.w.Compact(r.Revision); err != nil {
		return nil, err
	}
	a.compacted = r.Revision
	return &pb.CompactionResponse{Header: a.header()}, nil
}

func (a *applier) txn(body []byte) (proto.Message, error) {
	r := &pb.TxnRequest{}
	if err := decode(body, r); err != nil {
		return nil, err
	}
	if err := a.checkAlarms(hasPut(r)); err != nil {
		return nil, err
	}
	if err := a.auth.CheckTxn(a.by, r, a.leaseKeys); err != nil {
		return nil, err
	}
	c := a.begin()
	defer c.end()
	b, err := choose(c.w, r)
	if err != nil {
		return nil, err
	}
	var deletes []*pb.DeleteRangeRequest
	if err := c.checkBranch(b, &deletes); err != nil {
		return nil, err
	}
	resp, err := c.branch(b)
	if err != nil {
		return nil, err
	}
	resp.Header.Revision = c.revision()
	return resp, nil
}

// hasPut tells whether any branch puts, whichever will be taken.
func hasPut(t *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{t.Success, t.Failure} {
		for _, op := range ops {
			if op.GetRequestPut() != nil {
				return true
			}
			if inner := op.GetRequestTxn(); inner != nil && hasPut(inner) {
				return true
			}
		}
	}
	return false
}

// checkBranch checks the requests of a branch on the state before the
// transaction. deletes collects the deletes on the way.
func (c *change) checkBranch(b *branch, deletes *[]*pb.DeleteRangeRequest) error {
	nested := b.nested
	for _, op := range b.ops {
		var err error
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			err = checkRevision(o.RequestRange.Revision, c.w.Rev(), c.compacted)
		case *pb.RequestOp_RequestPut:
			err = c.checkTxnPut(o.RequestPut, *deletes)
		case *pb.RequestOp_RequestDeleteRange:
			*deletes = append(*deletes, o.RequestDeleteRange)
		case *pb.RequestOp_RequestTxn:
			err = c.checkBranch(nested[0], deletes)
			nested = nested[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkTxnPut also refuses to keep the value of a key that the transaction
// deleted before. Such a request is refused on arrival already, as one that
// names a key twice; here it must not get past the point of no return.
func (c *change) checkTxnPut(r *pb.PutRequest, deletes []*pb.DeleteRangeRequest) error {
	if r.IgnoreValue || r.IgnoreLease {
		for _, d := range deletes {
			if covers(d.Key, d.RangeEnd, r.Key) {
				return ErrKeyNotFound
			}
		}
	}
	return c.checkPut(r)
}

// covers tells whether a range, by etcd's rules of its end, holds a key.
func covers(from, end, key []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(from, key)
	case len(end) == 1 && end[0] == 0:
		return bytes.Compare(key, from) >= 0
	}
	return bytes.Compare(key, from) >= 0 && bytes.Compare(key, end) < 0
}

// branch executes requests that checkBranch accepted.
func (c *change) branch(b *branch) (*pb.TxnResponse, error) {
	resp := newTxnResponse(b)
	nested := b.nested
	for i, op := range b.ops {
		if op.GetRequestTxn() != nil {
			inner, err := c.branch(nested[0])
			if err != nil {
				return nil, err
			}
			nested = nested[1:]
			resp.Responses[i] = txnOp(inner)
			continue
		}
		r, err := c.op(op)
		if err != nil {
			return nil, err
		}
		resp.Responses[i] = r
	}
	return resp, nil
}

// op executes one request of a transaction. From here on an error cannot be
// undone, so that none of them may pass for a result.
func (c *change) op(op *pb.RequestOp) (*pb.ResponseOp, error) {
	switch o := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		r, err := rangeFrom(c.w, o.RequestRange)
		if err != nil {
			return nil, fmt.Errorf("range in a checked transaction: %s", err)
		}
		r.Header = c.header()
		return rangeOp(r), nil
	case *pb.RequestOp_RequestPut:
		r, err := c.put(o.RequestPut)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: r}}, err
	case *pb.RequestOp_RequestDeleteRange:
		r, err := c.deleteRange(o.RequestDeleteRange)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: r}}, err
	}
	return &pb.ResponseOp{}, nil // a request without content does nothing
}

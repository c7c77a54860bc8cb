package rpc

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/pkg/v3/adt"
)

// A transaction may put a key once, and may not put what it deletes: the
// result would depend on an order that a revision does not record. Which
// operations meet is decided as etcd does:
//
//   - puts and deletes of one list, whatever their order, and of everything
//     nested in it, before or after;
//   - not those of the two branches of one nested transaction, of which only
//     one is taken;
//   - not a put nested in an earlier transaction with a delete nested in a
//     later one of the same list;
//   - a delete from a key on without bound meets nothing.

// touched is what a list of operations puts and deletes, nested ones included.
type touched struct {
	puts map[string]struct{}
	dels adt.IntervalTree
}

// wholeSpace covers all intervals of keys.
var wholeSpace = adt.NewStringAffineInterval("\x00", "")

// checkKeysOnce refuses a list of operations that breaks the rule.
func checkKeysOnce(ops []*pb.RequestOp) error {
	_, err := touchedBy(ops)
	return err
}

func touchedBy(ops []*pb.RequestOp) (touched, error) {
	t := touched{puts: make(map[string]struct{}), dels: adt.NewIntervalTree()}
	for _, op := range ops {
		if d := op.GetRequestDeleteRange(); d != nil {
			t.dels.Insert(deleted(d), struct{}{})
		}
	}
	for _, op := range ops {
		if inner := op.GetRequestTxn(); inner != nil {
			if err := t.addTxn(inner); err != nil {
				return t, err
			}
		}
	}
	for _, op := range ops {
		if p := op.GetRequestPut(); p != nil {
			if err := t.addPut(string(p.Key), nil); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

func (t *touched) addTxn(r *pb.TxnRequest) error {
	success, err := touchedBy(r.Success)
	if err != nil {
		return err
	}
	failure, err := touchedBy(r.Failure)
	if err != nil {
		return err
	}
	for key := range success.puts {
		if err := t.addPut(key, nil); err != nil {
			return err
		}
	}
	for key := range failure.puts {
		if err := t.addPut(key, success.puts); err != nil {
			return err
		}
	}
	t.dels.Union(success.dels, wholeSpace)
	t.dels.Union(failure.dels, wholeSpace)
	return nil
}

// addPut adds a key that is put; it may be there already when it is in other.
func (t *touched) addPut(key string, other map[string]struct{}) error {
	_, twice := t.puts[key]
	_, exclusive := other[key]
	if twice && !exclusive || t.dels.Intersects(adt.NewStringAffinePoint(key)) {
		return rpctypes.ErrGRPCDuplicateKey
	}
	t.puts[key] = struct{}{}
	return nil
}

func deleted(d *pb.DeleteRangeRequest) adt.Interval {
	if len(d.RangeEnd) == 0 {
		return adt.NewStringAffinePoint(string(d.Key))
	}
	return adt.NewStringAffineInterval(string(d.Key), string(d.RangeEnd))
}

package rpc

import (
	"context"
	"time"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/state"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// kvServer is etcdserverpb.KV.
type kvServer struct {
	*Server
	pb.UnsafeKVServer
}

// Range answers callers on the wire: pairs may come encoded, see RangeEncoded.
func (s *kvServer) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return s.rangeBy(ctx, r, (*state.Machine).RangeEncoded)
}

func (s *kvServer) rangeBy(ctx context.Context, r *pb.RangeRequest, read func(*state.Machine, *pb.RangeRequest, state.Grow) (*pb.RangeResponse, error)) (resp *pb.RangeResponse, err error) {
	defer func(begin time.Time) { s.calls.answered("Range", begin, err) }(time.Now())
	if err := checkRange(r); err != nil {
		return nil, err
	}
	s.metrics.ranges.Add(1)
	m, err := s.readable(ctx, r.Serializable)
	if err != nil {
		return nil, err
	}
	fresh, err := s.allowRange(ctx, r.Key, r.RangeEnd)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	resp, err = read(m, r, drawingOf(ctx).grow)
	s.calls.ranged(begin, err)
	if err != nil {
		return nil, wireError(err)
	}
	if err := fresh(); err != nil {
		return nil, err
	}
	s.complete(resp.Header)
	return resp, nil
}

// readable is the state to read from: the local one, or one that holds every
// acknowledged write.
func (s *Server) readable(ctx context.Context, serializable bool) (*state.Machine, error) {
	if !serializable {
		if err := s.b.ReadBarrier(ctx); err != nil {
			return nil, wireError(err)
		}
	}
	return s.b.Machine(), nil
}

func (s *kvServer) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if err := s.checkQuota(ctx, putCost(r)); err != nil {
		return nil, err
	}
	if err := checkPut(r); err != nil {
		return nil, err
	}
	m, err := s.propose(ctx, state.KindPut, r)
	if err != nil {
		return nil, err
	}
	resp := m.(*pb.PutResponse)
	s.complete(resp.Header)
	return resp, nil
}

func (s *kvServer) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if err := checkDeleteRange(r); err != nil {
		return nil, err
	}
	m, err := s.propose(ctx, state.KindDeleteRange, r)
	if err != nil {
		return nil, err
	}
	resp := m.(*pb.DeleteRangeResponse)
	s.complete(resp.Header)
	return resp, nil
}

func (s *kvServer) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := s.checkQuota(ctx, txnCost(r)); err != nil {
		return nil, err
	}
	if err := checkTxn(r, s.o.MaxTxnOps); err != nil {
		return nil, err
	}
	if err := checkKeysOnce(r.Success); err != nil {
		return nil, err
	}
	if err := checkKeysOnce(r.Failure); err != nil {
		return nil, err
	}
	s.metrics.txns.Add(1)
	if state.IsReadOnly(r) {
		return s.readTxn(ctx, r)
	}
	m, err := s.propose(ctx, state.KindTxn, r)
	if err != nil {
		return nil, err
	}
	resp := m.(*pb.TxnResponse)
	s.complete(resp.Header)
	return resp, nil
}

func (s *kvServer) readTxn(ctx context.Context, r *pb.TxnRequest) (resp *pb.TxnResponse, err error) {
	defer func(begin time.Time) { s.calls.answered("ReadonlyTxn", begin, err) }(time.Now())
	m, err := s.readable(ctx, allSerializable(r))
	if err != nil {
		return nil, err
	}
	fresh, err := s.allow(ctx, func(users *auth.State, by auth.Identity) error {
		return users.CheckTxn(by, r, leaseKeys(m))
	})
	if err != nil {
		return nil, err
	}
	resp, err = m.ReadTxnWithin(r, drawingOf(ctx).grow)
	if err != nil {
		return nil, wireError(err)
	}
	if err := fresh(); err != nil {
		return nil, err
	}
	s.complete(resp.Header)
	return resp, nil
}

// allSerializable tells whether a read-only transaction is content with the
// local state: every range of it says so, and there is one. Compares alone have
// nothing to say it with, and get the newest state.
func allSerializable(r *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if !op.GetRequestRange().GetSerializable() {
				return false
			}
		}
	}
	return len(r.Success)+len(r.Failure) > 0
}

// Compact answers when the compaction is decided: from then on no reader sees
// what it removes, and hashes are without it. Removing the rows goes on in the
// background, also for a physical compaction.
func (s *kvServer) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	m, err := s.propose(ctx, state.KindCompact, r)
	if err != nil {
		return nil, err
	}
	resp := m.(*pb.CompactionResponse)
	s.complete(resp.Header)
	return resp, nil
}

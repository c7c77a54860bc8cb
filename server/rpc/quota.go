package rpc

import (
	"context"
	"time"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/state"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// What a key and a lease take beside their bytes, as etcd estimates.
const (
	keyOverheadBytes   = 256
	leaseOverheadBytes = 64
)

// proposalOverheadBytes is what etcd adds to a request before it looks at its
// size: who asks for it by which number, and what it is. That takes a byte more
// or less by the number.
const proposalOverheadBytes = 18

// checkQuota refuses what would not fit, and raises the alarm that makes all
// members refuse. costBytes 0 always fits.
func (s *Server) checkQuota(ctx context.Context, costBytes int) error {
	if s.o.QuotaBytes < 0 || costBytes == 0 {
		return nil
	}
	m := s.b.Machine()
	if m.Size().TotalBytes+int64(costBytes) < s.o.QuotaBytes {
		return nil
	}
	id := s.b.Status().ID
	for _, a := range m.Alarms() {
		if a.Alarm == pb.AlarmType_NOSPACE && a.MemberID == id {
			return rpctypes.ErrGRPCNoSpace
		}
	}
	r := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: id, Alarm: pb.AlarmType_NOSPACE}
	if _, err := s.propose(ctx, state.KindAlarm, r); err != nil {
		s.o.Logger.Warn("NOSPACE alarm not raised", "error", err)
	}
	return rpctypes.ErrGRPCNoSpace
}

// propose has a request of the caller committed. The error is the wire's.
func (s *Server) propose(ctx context.Context, kind state.Kind, r proto.Message) (proto.Message, error) {
	by, err := s.identify(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	return s.proposeAs(ctx, by, kind, r)
}

func (s *Server) proposeAs(ctx context.Context, by auth.Identity, kind state.Kind, r proto.Message) (resp proto.Message, err error) {
	defer func(begin time.Time) { s.calls.answered(requestTypes[kind], begin, err) }(time.Now())
	body, err := proto.Marshal(r)
	if err != nil {
		return nil, wireError(err)
	}
	if len(body)+proposalOverheadBytes > s.o.MaxRequestBytes {
		return nil, rpctypes.ErrGRPCRequestTooLarge
	}
	d := drawing{b: s.requests, ctx: ctx}
	if err := d.grow(len(body)); err != nil {
		s.metrics.proposalsFailed.Add(1)
		return nil, err
	}
	defer d.release()
	res, _, err := s.b.Propose(ctx, state.Command{Kind: kind, By: by, Body: body})
	if err != nil {
		s.metrics.proposalsFailed.Add(1)
		return nil, wireError(err)
	}
	if res.Err != nil {
		return nil, wireError(res.Err)
	}
	return res.Response, nil
}

func putCost(r *pb.PutRequest) int { return keyOverheadBytes + len(r.Key) + len(r.Value) }

// txnCost is the cost of the more expensive branch; 0 without puts.
func txnCost(r *pb.TxnRequest) int { return max(opsCost(r.Success), opsCost(r.Failure)) }

func opsCost(ops []*pb.RequestOp) int {
	n := 0
	for _, op := range ops {
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			n += putCost(o.RequestPut)
		case *pb.RequestOp_RequestTxn:
			n += txnCost(o.RequestTxn)
		}
	}
	return n
}

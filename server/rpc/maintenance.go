package rpc

import (
	"context"
	"strconv"
	"time"

	"metastore.io/metastore/server/state"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// maintenanceServer is etcdserverpb.Maintenance.
type maintenanceServer struct {
	*Server
	pb.UnsafeMaintenanceServer
}

// What a Status answer tells in its header beside etcd's fields: MetaStore's
// version, the end of this member's log, by which members that have lost their
// quorum are compared, and Options.Settings.
const (
	headerVersion  = "metastore-version"
	headerLogIndex = "metastore-log-index"
	headerLogTerm  = "metastore-log-term"
	headerSettings = "metastore-settings"
)

// Status is answered from what this member knows, also without a leader.
func (s *maintenanceServer) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	index, term := s.b.LogEnd()
	// Fails only where there is no stream to send it on, as behind the gateway.
	_ = grpc.SetHeader(ctx, metadata.Pairs(headerVersion, Version,
		headerLogIndex, strconv.FormatUint(index, 10), headerLogTerm, strconv.FormatUint(term, 10),
		headerSettings, s.o.Settings))
	m, st := s.b.Machine(), s.b.Status()
	size := m.Size()
	resp := &pb.StatusResponse{
		Header:           s.headerAt(m.KV().Rev()),
		Version:          EtcdVersion,
		StorageVersion:   s.storageVersion(),
		DbSize:           size.TotalBytes,
		DbSizeInUse:      size.UsedBytes,
		DbSizeQuota:      s.o.QuotaBytes,
		Leader:           st.Leader,
		RaftIndex:        st.Committed,
		RaftAppliedIndex: st.Applied,
		RaftTerm:         st.Term,
		IsLearner:        st.Learner,
		DowngradeInfo:    &pb.DowngradeInfo{Enabled: m.Downgrade() != "", TargetVersion: m.Downgrade()},
	}
	if st.Leader == 0 {
		resp.Errors = append(resp.Errors, rpctypes.ErrNoLeader.Error())
	}
	for _, a := range m.Alarms() {
		resp.Errors = append(resp.Errors, a.String())
	}
	return resp, nil
}

func (s *maintenanceServer) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if err := checkAlarm(r); err != nil {
		return nil, err
	}
	m, err := s.propose(ctx, state.KindAlarm, r)
	if err != nil {
		return nil, err
	}
	resp := m.(*pb.AlarmResponse)
	s.complete(resp.Header)
	return resp, nil
}

func (s *maintenanceServer) Hash(context.Context, *pb.HashRequest) (*pb.HashResponse, error) {
	m := s.b.Machine()
	rev, begin := m.KV().Rev(), time.Now()
	hash, err := m.Hash()
	s.calls.hash.Observe(time.Since(begin).Seconds())
	if err != nil {
		return nil, wireError(err)
	}
	return &pb.HashResponse{Header: s.headerAt(rev), Hash: hash}, nil
}

func (s *maintenanceServer) HashKV(_ context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	begin := time.Now()
	hash, compact, current, err := s.b.Machine().KV().HashKV(r.Revision)
	s.calls.hashRev.Observe(time.Since(begin).Seconds())
	if err != nil {
		return nil, wireError(err)
	}
	hashed := r.Revision
	if hashed == 0 {
		hashed = current
	}
	return &pb.HashKVResponse{Header: s.headerAt(current), Hash: hash, CompactRevision: compact, HashRevision: hashed}, nil
}

// Defragment runs alone: a second one waits for the first.
func (s *maintenanceServer) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	select {
	case s.defragmenting <- struct{}{}:
		defer func() { <-s.defragmenting }()
	case <-ctx.Done():
		return nil, wireError(ctx.Err())
	}
	if s.o.StopOnDefrag {
		s.setServing(false, "defrag is active")
		defer s.setServing(true, "")
	}
	if err := s.b.Machine().Defragment(); err != nil {
		return nil, wireError(err)
	}
	return &pb.DefragmentResponse{}, nil
}

func (s *maintenanceServer) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if !s.b.Status().IsLeader() {
		return nil, rpctypes.ErrGRPCNotLeader
	}
	if m, ok := s.b.Machine().Member(r.TargetID); !ok || m.Learner {
		return nil, rpctypes.ErrGRPCBadLeaderTransferee
	}
	if err := s.b.MoveLeader(ctx, r.TargetID); err != nil {
		return nil, wireError(err)
	}
	return &pb.MoveLeaderResponse{}, nil
}

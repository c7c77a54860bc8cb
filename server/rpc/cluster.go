package rpc

import (
	"context"
	"math"
	"math/rand/v2"

	"metastore.io/metastore/server/state"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/types"
)

// clusterServer is etcdserverpb.Cluster. Its headers have no revision, as etcd's.
type clusterServer struct {
	*Server
	pb.UnsafeClusterServer
}

// MemberAdd looks at URLs before it looks at permissions, as etcd does.
func (s *clusterServer) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	urls, err := types.NewURLs(r.PeerURLs)
	if err != nil {
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	if err := s.allowAdmin(ctx); err != nil {
		return nil, err
	}
	m := state.Member{ID: s.freeMemberID(), PeerURLs: urls.StringSlice(), Learner: r.IsLearner}
	kind := state.AddVoter
	if r.IsLearner {
		kind = state.AddLearner
	}
	members, err := s.b.ChangeMembers(ctx, state.MemberChange{Kind: kind, Member: m})
	if err != nil {
		return nil, wireError(err)
	}
	return &pb.MemberAddResponse{Header: s.header(), Member: wireMember(m), Members: wireMembers(members)}, nil
}

// freeMemberID is an ID that no member has or had. Those with the highest bit
// are left out: raft keeps some for itself.
func (s *clusterServer) freeMemberID() uint64 {
	m := s.b.Machine()
	for {
		id := 1 + rand.Uint64N(math.MaxInt64)
		if _, taken := m.Member(id); !taken && !m.Removed(id) {
			return id
		}
	}
}

func (s *clusterServer) MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	members, err := s.b.ChangeMembers(ctx, state.MemberChange{Kind: state.Remove, Member: state.Member{ID: r.ID}})
	if err != nil {
		return nil, wireError(err)
	}
	return &pb.MemberRemoveResponse{Header: s.header(), Members: wireMembers(members)}, nil
}

func (s *clusterServer) MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	members, err := s.b.ChangeMembers(ctx, state.MemberChange{Kind: state.Promote, Member: state.Member{ID: r.ID}})
	if err != nil {
		return nil, wireError(err)
	}
	return &pb.MemberPromoteResponse{Header: s.header(), Members: wireMembers(members)}, nil
}

// MemberUpdate looks at URLs last. Bad ones it refuses where etcd takes them, and
// can not start again.
func (s *clusterServer) MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	if err := s.allowAdmin(ctx); err != nil {
		return nil, err
	}
	urls, err := types.NewURLs(r.PeerURLs)
	if err != nil {
		m, err := s.readable(ctx, false)
		if err != nil {
			return nil, err
		}
		if _, known := m.Member(r.ID); !known {
			return nil, rpctypes.ErrGRPCMemberNotFound
		}
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	m := &pb.Member{ID: r.ID, PeerURLs: urls.StringSlice()}
	if _, err := s.propose(ctx, state.KindMemberUpdate, m); err != nil {
		return nil, err
	}
	return &pb.MemberUpdateResponse{Header: s.header(), Members: wireMembers(s.b.Machine().Members())}, nil
}

func (s *clusterServer) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	m, err := s.readable(ctx, !r.Linearizable)
	if err != nil {
		return nil, err
	}
	return &pb.MemberListResponse{Header: s.header(), Members: wireMembers(m.Members())}, nil
}

func wireMembers(members []state.Member) []*pb.Member {
	out := make([]*pb.Member, len(members))
	for i, m := range members {
		out[i] = wireMember(m)
	}
	return out
}

func wireMember(m state.Member) *pb.Member {
	return &pb.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.Learner}
}

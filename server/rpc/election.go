package rpc

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"google.golang.org/grpc"
)

// errMissingLeader is what a Proclaim and a Resign answer that say not for whom.
var errMissingLeader = errors.New(`"leader" field must be provided`)

// electionServer is v3electionpb.Election: the leader is the oldest key below
// the election's name, its value what the leader proclaims.
type electionServer struct {
	*Server
	v3electionpb.UnsafeElectionServer
}

// Campaign waits to be elected.
func (s *electionServer) Campaign(ctx context.Context, r *v3electionpb.CampaignRequest) (*v3electionpb.CampaignResponse, error) {
	session, err := s.session(ctx, r.Lease)
	if err != nil {
		return nil, err
	}
	e := concurrency.NewElection(session, string(r.Name))
	if err := e.Campaign(ctx, string(r.Value)); err != nil {
		return nil, err
	}
	leader := &v3electionpb.LeaderKey{Name: r.Name, Key: []byte(e.Key()), Rev: e.Rev(), Lease: int64(session.Lease())}
	return &v3electionpb.CampaignResponse{Header: e.Header(), Leader: leader}, nil
}

// Proclaim changes the leader's value while it leads.
func (s *electionServer) Proclaim(ctx context.Context, r *v3electionpb.ProclaimRequest) (*v3electionpb.ProclaimResponse, error) {
	e, err := s.resume(ctx, r.Leader)
	if err != nil {
		return nil, err
	}
	if err := e.Proclaim(ctx, string(r.Value)); err != nil {
		return nil, err
	}
	return &v3electionpb.ProclaimResponse{Header: e.Header()}, nil
}

// Resign gives leadership up; for one that does not lead it does nothing.
func (s *electionServer) Resign(ctx context.Context, r *v3electionpb.ResignRequest) (*v3electionpb.ResignResponse, error) {
	e, err := s.resume(ctx, r.Leader)
	if err != nil {
		return nil, err
	}
	if err := e.Resign(ctx); err != nil {
		return nil, err
	}
	return &v3electionpb.ResignResponse{Header: e.Header()}, nil
}

func (s *electionServer) resume(ctx context.Context, l *v3electionpb.LeaderKey) (*concurrency.Election, error) {
	if l == nil {
		return nil, errMissingLeader
	}
	session, err := s.session(ctx, l.Lease)
	if err != nil {
		return nil, err
	}
	return concurrency.ResumeElection(session, string(l.Name), string(l.Key), l.Rev), nil
}

// observer is the election as seen by one who does not stand for it.
func (s *electionServer) observer(ctx context.Context, name []byte) (*concurrency.Election, error) {
	const noLease = -1
	session, err := s.session(ctx, noLease)
	if err != nil {
		return nil, err
	}
	return concurrency.NewElection(session, string(name)), nil
}

// Leader tells who leads.
func (s *electionServer) Leader(ctx context.Context, r *v3electionpb.LeaderRequest) (*v3electionpb.LeaderResponse, error) {
	e, err := s.observer(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	resp, err := e.Leader(ctx)
	if err != nil {
		return nil, err
	}
	return leaderResponse(resp), nil
}

// Observe tells who leads and what it proclaims, from now on.
func (s *electionServer) Observe(r *v3electionpb.LeaderRequest, stream grpc.ServerStreamingServer[v3electionpb.LeaderResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	e, err := s.observer(ctx, r.Name)
	if err != nil {
		return err
	}
	for resp := range e.Observe(ctx) {
		if err := stream.Send(leaderResponse(resp)); err != nil {
			return err
		}
	}
	return streamEnd(stream.Context())
}

func leaderResponse(r *clientv3.GetResponse) *v3electionpb.LeaderResponse {
	return &v3electionpb.LeaderResponse{Header: r.Header, Kv: r.Kvs[0]}
}

package rpc

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/state"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// leaseServer is etcdserverpb.Lease.
type leaseServer struct {
	*Server
	pb.UnsafeLeaseServer
}

// LeaseGrant chooses the ID where the client did not: a random one, tried anew
// when another member granted the same one meanwhile. The shortest time to live
// is this member's setting, so that it has to be in the command.
func (s *leaseServer) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if err := s.checkQuota(ctx, leaseOverheadBytes); err != nil {
		return nil, err
	}
	r.TTL = max(r.TTL, s.o.MinLeaseSeconds)
	choose := r.ID == 0
	for {
		if choose {
			r.ID = s.freeLeaseID()
		}
		m, err := s.propose(ctx, state.KindLeaseGrant, r)
		if choose && errors.Is(err, rpctypes.ErrGRPCLeaseExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		resp := m.(*pb.LeaseGrantResponse)
		s.complete(resp.Header)
		return resp, nil
	}
}

// freeLeaseID is a positive ID that no lease has here.
func (s *leaseServer) freeLeaseID() int64 {
	leases := s.b.Machine().Leases()
	for {
		id := 1 + rand.Int64N(math.MaxInt64)
		if _, taken := leases.Lookup(lease.ID(id)); !taken {
			return id
		}
	}
}

func (s *leaseServer) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	m, err := s.propose(ctx, state.KindLeaseRevoke, r)
	if err != nil {
		return nil, err
	}
	resp := m.(*pb.LeaseRevokeResponse)
	s.complete(resp.Header)
	return resp, nil
}

// LeaseKeepAlive serves the stream in a goroutine of its own, which ends with
// the call, so that the call can end while the client is silent.
func (s *leaseServer) LeaseKeepAlive(stream grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	ctx := stream.Context()
	done := make(chan error, 1)
	go func() { done <- s.keepAlive(ctx, stream) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return streamEnd(ctx)
	}
}

func (s *leaseServer) keepAlive(ctx context.Context, stream grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.calls.streamed(ctx, "receive", "lease-keepalive", err)
			return err
		}
		if _, err := s.allow(ctx, s.mayRenew(r.ID)); err != nil {
			return err
		}
		// The header first: a client that sees its lease alive at a revision
		// must not find it revoked at an earlier one.
		resp := &pb.LeaseKeepAliveResponse{Header: s.headerAt(s.b.Machine().KV().Rev()), ID: r.ID}
		resp.TTL, err = s.b.RenewLease(ctx, lease.ID(r.ID))
		if errors.Is(err, lease.ErrNotFound) {
			resp.TTL, err = 0, nil
		}
		if err != nil {
			return wireError(err)
		}
		if err := stream.Send(resp); err != nil {
			s.calls.streamed(ctx, "send", "lease-keepalive", err)
			return err
		}
	}
}

// mayRenew is for users who may write all keys of a lease.
func (s *leaseServer) mayRenew(id int64) permission {
	return func(users *auth.State, by auth.Identity) error {
		if err := users.CheckKnown(by); err != nil {
			return err
		}
		return users.CheckLeaseWrite(by, id, leaseKeys(s.b.Machine()))
	}
}

// mayList is for users who may read all keys of leases.
func mayList(m *state.Machine, ids ...lease.ID) permission {
	return func(users *auth.State, by auth.Identity) error {
		if err := users.CheckKnown(by); err != nil {
			return err
		}
		for _, id := range ids {
			if err := users.CheckLeaseRead(by, int64(id), leaseKeys(m)); err != nil {
				return err
			}
		}
		return nil
	}
}

func leaseKeys(m *state.Machine) auth.LeaseKeys {
	return func(id int64) [][]byte { return m.Leases().Keys(lease.ID(id)) }
}

func (s *leaseServer) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	m, err := s.readable(ctx, false)
	if err != nil {
		return nil, err
	}
	var wanted []lease.ID
	if r.Keys {
		wanted = append(wanted, lease.ID(r.ID))
	}
	fresh, err := s.allow(ctx, mayList(m, wanted...))
	if err != nil {
		return nil, err
	}
	resp := &pb.LeaseTimeToLiveResponse{Header: s.headerAt(m.KV().Rev()), ID: r.ID}
	granted, ok := m.Leases().Lookup(lease.ID(r.ID))
	if !ok {
		return s.noLease(ctx, r.ID)
	}
	left, err := s.b.LeaseRemaining(ctx, lease.ID(r.ID))
	if errors.Is(err, lease.ErrNotFound) {
		return s.noLease(ctx, r.ID)
	}
	if err != nil {
		return nil, wireError(err)
	}
	resp.TTL, resp.GrantedTTL = int64(max(left, 0).Seconds()), granted.TTLSeconds
	if r.Keys {
		resp.Keys = m.Leases().Keys(lease.ID(r.ID))
		return resp, fresh()
	}
	return resp, nil
}

// noLease tells that there is no lease, at a revision that is not before the one
// in which it took its keys along: it may have gone this moment, a little before
// that revision can be read.
func (s *leaseServer) noLease(ctx context.Context, id int64) (*pb.LeaseTimeToLiveResponse, error) {
	m, err := s.readable(ctx, false)
	if err != nil {
		return nil, err
	}
	return &pb.LeaseTimeToLiveResponse{Header: s.headerAt(m.KV().Rev()), ID: id, TTL: -1}, nil
}

func (s *leaseServer) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	m, err := s.readable(ctx, false)
	if err != nil {
		return nil, err
	}
	ids := m.Leases().List()
	fresh, err := s.allow(ctx, mayList(m, ids...))
	if err != nil {
		return nil, err
	}
	resp := &pb.LeaseLeasesResponse{Header: s.headerAt(m.KV().Rev())}
	for _, id := range ids {
		resp.Leases = append(resp.Leases, &pb.LeaseStatus{ID: int64(id)})
	}
	return resp, fresh()
}

package rpc

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// authServer is etcdserverpb.Auth without authentication: it says that it is
// off, and that all else is not implemented.
type authServer struct {
	*Server
	pb.UnimplementedAuthServer
}

// firstAuthRevision is the revision of users and roles that never changed.
const firstAuthRevision = 1

func (s *authServer) AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	rev := s.b.Machine().KV().Rev()
	return &pb.AuthStatusResponse{Header: s.headerAt(rev), AuthRevision: firstAuthRevision}, nil
}

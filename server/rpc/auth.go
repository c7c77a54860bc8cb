package rpc

import (
	"context"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/state"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// authServer is etcdserverpb.Auth. Changes are judged when they are applied;
// passwords are hashed before they are proposed.
type authServer struct {
	*Server
	pb.UnsafeAuthServer
}

// headed is a response with a header.
type headed interface{ GetHeader() *pb.ResponseHeader }

// change has a request committed and answers what it did.
func change[R headed](ctx context.Context, s *authServer, kind state.Kind, r proto.Message) (R, error) {
	var none R
	m, err := s.propose(ctx, kind, r)
	if err != nil {
		return none, err
	}
	resp := m.(R)
	s.complete(resp.GetHeader())
	return resp, nil
}

func (s *authServer) AuthEnable(ctx context.Context, r *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	return change[*pb.AuthEnableResponse](ctx, s, state.KindAuthEnable, r)
}

func (s *authServer) AuthDisable(ctx context.Context, r *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	return change[*pb.AuthDisableResponse](ctx, s, state.KindAuthDisable, r)
}

// Authenticate gives a token for a password. It is checked here; when users
// changed until the token was there, it is checked again.
func (s *authServer) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	if err := s.b.ReadBarrier(ctx); err != nil {
		return nil, wireError(err)
	}
	for {
		users := s.b.Machine().Auth()
		if err := users.CheckPassword(r.Name, r.Password); err != nil {
			return nil, wireError(err)
		}
		resp, err := s.token(ctx, r.Name, users.Revision())
		if err != nil {
			return nil, err
		}
		if s.b.Machine().Auth().Revision() == users.Revision() {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, wireError(ctx.Err())
		}
	}
}

// token makes a token. A simple one is committed, so that every member knows
// it; a signed one needs no memory.
func (s *authServer) token(ctx context.Context, user string, rev uint64) (*pb.AuthenticateResponse, error) {
	scheme := s.o.Auth.Scheme
	if scheme.None {
		return nil, wireError(auth.ErrAuthFailed)
	}
	if scheme.JWT != nil {
		token, err := scheme.JWT.Sign(user, rev, s.now())
		if err != nil {
			return nil, wireError(err)
		}
		return &pb.AuthenticateResponse{Header: s.headerAt(s.b.Machine().KV().Rev()), Token: token}, nil
	}
	r := &pb.InternalAuthenticateRequest{Name: user, SimpleToken: auth.NewPrefix()}
	m, err := s.proposeAs(ctx, auth.Identity{}, state.KindAuthenticate, r)
	if err != nil {
		return nil, err
	}
	resp := m.(*pb.AuthenticateResponse)
	s.complete(resp.Header)
	return resp, nil
}

func (s *authServer) UserAdd(ctx context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	if err := checkName(r.Name); err != nil {
		return nil, err
	}
	if !r.GetOptions().GetNoPassword() {
		var err error
		if r.HashedPassword, err = auth.HashPassword(r.Password, auth.Cost(s.o.Auth.BcryptCost)); err != nil {
			return nil, wireError(err)
		}
	}
	r.Password = ""
	return change[*pb.AuthUserAddResponse](ctx, s, state.KindUserAdd, r)
}

// UserChangePassword takes a hash of the client's, too, as etcd does.
func (s *authServer) UserChangePassword(ctx context.Context, r *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	if r.Password != "" {
		var err error
		if r.HashedPassword, err = auth.HashPassword(r.Password, auth.Cost(s.o.Auth.BcryptCost)); err != nil {
			return nil, wireError(err)
		}
	}
	r.Password = ""
	return change[*pb.AuthUserChangePasswordResponse](ctx, s, state.KindUserChangePassword, r)
}

func (s *authServer) UserDelete(ctx context.Context, r *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	return change[*pb.AuthUserDeleteResponse](ctx, s, state.KindUserDelete, r)
}

func (s *authServer) UserGrantRole(ctx context.Context, r *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	return change[*pb.AuthUserGrantRoleResponse](ctx, s, state.KindUserGrantRole, r)
}

func (s *authServer) UserRevokeRole(ctx context.Context, r *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	return change[*pb.AuthUserRevokeRoleResponse](ctx, s, state.KindUserRevokeRole, r)
}

func (s *authServer) RoleAdd(ctx context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	if err := checkName(r.Name); err != nil {
		return nil, err
	}
	return change[*pb.AuthRoleAddResponse](ctx, s, state.KindRoleAdd, r)
}

func (s *authServer) RoleDelete(ctx context.Context, r *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	return change[*pb.AuthRoleDeleteResponse](ctx, s, state.KindRoleDelete, r)
}

func (s *authServer) RoleGrantPermission(ctx context.Context, r *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	return change[*pb.AuthRoleGrantPermissionResponse](ctx, s, state.KindRoleGrantPermission, r)
}

func (s *authServer) RoleRevokePermission(ctx context.Context, r *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	return change[*pb.AuthRoleRevokePermissionResponse](ctx, s, state.KindRoleRevokePermission, r)
}

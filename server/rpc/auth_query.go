package rpc

import (
	"context"

	"metastore.io/metastore/server/auth"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// query gives the users of now, which hold every acknowledged change, to a
// caller whom check allows to see them, and a header to go with them.
func (s *authServer) query(ctx context.Context, check permission) (*auth.State, *pb.ResponseHeader, error) {
	m, err := s.readable(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	by, err := s.identify(ctx)
	if err != nil {
		return nil, nil, wireError(err)
	}
	users := s.b.Machine().Auth()
	if err := check(users, by); err != nil {
		return nil, nil, wireError(err)
	}
	return users, s.headerAt(m.KV().Rev()), nil
}

func anybody(*auth.State, auth.Identity) error { return nil }

func (s *authServer) AuthStatus(ctx context.Context, _ *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	users, header, err := s.query(ctx, anybody)
	if err != nil {
		return nil, err
	}
	return &pb.AuthStatusResponse{Header: header, Enabled: users.Enabled(), AuthRevision: users.Revision()}, nil
}

// UserGet is for admins and for the user itself.
func (s *authServer) UserGet(ctx context.Context, r *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	users, header, err := s.query(ctx, func(users *auth.State, by auth.Identity) error {
		if by.User == r.Name {
			return nil
		}
		return users.CheckAdmin(by)
	})
	if err != nil {
		return nil, err
	}
	roles, err := users.UserRoles(r.Name)
	if err != nil {
		return nil, wireError(err)
	}
	return &pb.AuthUserGetResponse{Header: header, Roles: roles}, nil
}

func (s *authServer) UserList(ctx context.Context, _ *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	users, header, err := s.query(ctx, (*auth.State).CheckAdmin)
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserListResponse{Header: header, Users: users.UserNames()}, nil
}

// RoleGet is for admins and for the users who have the role.
func (s *authServer) RoleGet(ctx context.Context, r *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	users, header, err := s.query(ctx, func(users *auth.State, by auth.Identity) error {
		if users.HasRole(by.User, r.Role) {
			return nil
		}
		return users.CheckAdmin(by)
	})
	if err != nil {
		return nil, err
	}
	perms, err := users.RolePermissions(r.Role)
	if err != nil {
		return nil, wireError(err)
	}
	return &pb.AuthRoleGetResponse{Header: header, Perm: perms}, nil
}

func (s *authServer) RoleList(ctx context.Context, _ *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	users, header, err := s.query(ctx, (*auth.State).CheckAdmin)
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleListResponse{Header: header, Roles: users.RoleNames()}, nil
}

package state

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/engine"
)

// authCommand applies what changes users and roles, or gives one a token. All
// but the token want an admin, which is judged before the body is looked at.
func (a *applier) authCommand(c Command) (proto.Message, error) {
	if c.Kind == KindAuthenticate {
		return a.authenticate(c.Body)
	}
	if err := a.auth.CheckAdmin(a.by); err != nil {
		return nil, err
	}
	switch c.Kind {
	case KindAuthEnable:
		return a.authEnable(c.Body)
	case KindAuthDisable:
		return a.authDisable(c.Body)
	case KindUserAdd:
		return users(a, c.Body, &pb.AuthUserAddRequest{}, (*auth.State).AddUser, &pb.AuthUserAddResponse{Header: a.header()})
	case KindUserDelete:
		return a.userDelete(c.Body)
	case KindUserChangePassword:
		return a.userChangePassword(c.Body)
	case KindUserGrantRole:
		return users(a, c.Body, &pb.AuthUserGrantRoleRequest{}, (*auth.State).GrantRole, &pb.AuthUserGrantRoleResponse{Header: a.header()})
	case KindUserRevokeRole:
		return users(a, c.Body, &pb.AuthUserRevokeRoleRequest{}, (*auth.State).RevokeRole, &pb.AuthUserRevokeRoleResponse{Header: a.header()})
	case KindRoleAdd:
		return users(a, c.Body, &pb.AuthRoleAddRequest{}, (*auth.State).AddRole, &pb.AuthRoleAddResponse{Header: a.header()})
	case KindRoleDelete:
		return users(a, c.Body, &pb.AuthRoleDeleteRequest{}, (*auth.State).DeleteRole, &pb.AuthRoleDeleteResponse{Header: a.header()})
	case KindRoleGrantPermission:
		return users(a, c.Body, &pb.AuthRoleGrantPermissionRequest{}, (*auth.State).GrantPermission, &pb.AuthRoleGrantPermissionResponse{Header: a.header()})
	case KindRoleRevokePermission:
		return users(a, c.Body, &pb.AuthRoleRevokePermissionRequest{}, (*auth.State).RevokePermission, &pb.AuthRoleRevokePermissionResponse{Header: a.header()})
	}
	return nil, fmt.Errorf("kind %d: %w", c.Kind, ErrUnknownCommand)
}

// users applies one change of users and roles, and answers resp when it was
// made.
func users[R proto.Message](a *applier, body []byte, r R, change func(*auth.State, *engine.Batch, R) (*auth.State, error), resp proto.Message) (proto.Message, error) {
	if err := decode(body, r); err != nil {
		return nil, err
	}
	next, err := change(a.auth, a.batch, r)
	if err != nil {
		return nil, err
	}
	a.auth = next
	return resp, nil
}

func (a *applier) authEnable(body []byte) (proto.Message, error) {
	enable := func(s *auth.State, b *engine.Batch, _ *pb.AuthEnableRequest) (*auth.State, error) { return s.Enable(b) }
	return users(a, body, &pb.AuthEnableRequest{}, enable, &pb.AuthEnableResponse{Header: a.header()})
}

// authDisable also ends every token.
func (a *applier) authDisable(body []byte) (proto.Message, error) {
	disable := func(s *auth.State, b *engine.Batch, _ *pb.AuthDisableRequest) (*auth.State, error) {
		if s.Enabled() {
			a.tokens.Clear()
		}
		return s.Disable(b), nil
	}
	return users(a, body, &pb.AuthDisableRequest{}, disable, &pb.AuthDisableResponse{Header: a.header()})
}

// userDelete also ends the user's tokens.
func (a *applier) userDelete(body []byte) (proto.Message, error) {
	r := &pb.AuthUserDeleteRequest{}
	resp, err := users(a, body, r, (*auth.State).DeleteUser, &pb.AuthUserDeleteResponse{Header: a.header()})
	if err == nil {
		a.tokens.Forget(r.Name)
	}
	return resp, err
}

// userChangePassword also ends the user's tokens.
func (a *applier) userChangePassword(body []byte) (proto.Message, error) {
	r := &pb.AuthUserChangePasswordRequest{}
	resp, err := users(a, body, r, (*auth.State).ChangePassword, &pb.AuthUserChangePasswordResponse{Header: a.header()})
	if err == nil {
		a.tokens.Forget(r.Name)
	}
	return resp, err
}

// authenticate gives a user whose password was checked a token, which every
// member knows from here on.
func (a *applier) authenticate(body []byte) (proto.Message, error) {
	r := &pb.InternalAuthenticateRequest{}
	if err := decode(body, r); err != nil {
		return nil, err
	}
	if err := a.auth.CheckAuthenticated(r.Name); err != nil {
		return nil, err
	}
	token := auth.SimpleToken(r.SimpleToken, a.index)
	a.tokens.Assign(token, r.Name)
	return &pb.AuthenticateResponse{Header: a.header(), Token: token}, nil
}

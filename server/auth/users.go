package auth

import (
	"encoding/base64"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/engine"
)

// AddUser adds a user. The request holds the hash of the password, see
// HashPassword.
func (s *State) AddUser(b *engine.Batch, r *pb.AuthUserAddRequest) (*State, error) {
	if r.Name == "" {
		return nil, ErrUserEmpty
	}
	if _, ok := s.users[r.Name]; ok {
		return nil, ErrUserAlreadyExist
	}
	u := &authpb.User{Name: []byte(r.Name), Options: &authpb.UserAddOptions{NoPassword: r.GetOptions().GetNoPassword()}}
	if err := setPassword(u, r.HashedPassword); err != nil {
		return nil, err
	}
	e := s.edit(b)
	e.putUser(u)
	return e.commit(), nil
}

// setPassword gives a user the hash of a password; one who has none by option
// keeps having none.
func setPassword(u *authpb.User, hash string) error {
	u.Password = nil
	if u.Options.GetNoPassword() {
		return nil
	}
	decoded, err := base64.StdEncoding.DecodeString(hash)
	if err != nil {
		return ErrNoPasswordUser
	}
	u.Password = decoded
	return nil
}

// DeleteUser removes a user; root only while checking is off.
func (s *State) DeleteUser(b *engine.Batch, r *pb.AuthUserDeleteRequest) (*State, error) {
	if s.enabled && r.Name == rootUser {
		return nil, ErrInvalidMgmt
	}
	if _, ok := s.users[r.Name]; !ok {
		return nil, ErrUserNotFound
	}
	e := s.edit(b)
	e.deleteUser(r.Name)
	return e.commit(), nil
}

// ChangePassword replaces the hash of a user's password.
func (s *State) ChangePassword(b *engine.Batch, r *pb.AuthUserChangePasswordRequest) (*State, error) {
	old, ok := s.users[r.Name]
	if !ok {
		return nil, ErrUserNotFound
	}
	u := withRoles(old, old.Roles)
	if err := setPassword(u, r.HashedPassword); err != nil {
		return nil, err
	}
	e := s.edit(b)
	e.putUser(u)
	return e.commit(), nil
}

// GrantRole gives a user a role. The root role need not exist. One that the
// user has already makes no revision.
func (s *State) GrantRole(b *engine.Batch, r *pb.AuthUserGrantRoleRequest) (*State, error) {
	u, ok := s.users[r.User]
	if !ok {
		return nil, ErrUserNotFound
	}
	if _, ok := s.roles[r.Role]; !ok && r.Role != rootRole {
		return nil, ErrRoleNotFound
	}
	i, ok := slices.BinarySearch(u.Roles, r.Role)
	if ok {
		return s, nil
	}
	e := s.edit(b)
	e.putUser(withRoles(u, slices.Insert(slices.Clone(u.Roles), i, r.Role)))
	return e.commit(), nil
}

// RevokeRole takes a role from a user; root keeps the root role while checking
// is on.
func (s *State) RevokeRole(b *engine.Batch, r *pb.AuthUserRevokeRoleRequest) (*State, error) {
	if s.enabled && r.Name == rootUser && r.Role == rootRole {
		return nil, ErrInvalidMgmt
	}
	u, ok := s.users[r.Name]
	if !ok {
		return nil, ErrUserNotFound
	}
	if !hasRole(u, r.Role) {
		return nil, ErrRoleNotGranted
	}
	e := s.edit(b)
	e.putUser(withRoles(u, without(u.Roles, r.Role)))
	return e.commit(), nil
}

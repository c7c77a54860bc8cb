package auth

import (
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"

	"metastore.io/metastore/server/engine"
)

// edit is a changed copy of a state. Its rows are staged as it is changed;
// nothing is changed before the request is known to succeed.
type edit struct {
	*State
	b *engine.Batch
}

func (s *State) edit(b *engine.Batch) edit {
	next := *s
	next.users, next.roles, next.allowed = maps.Clone(s.users), maps.Clone(s.roles), maps.Clone(s.allowed)
	return edit{&next, b}
}

// commit makes a new revision of the copy.
func (e edit) commit() *State {
	e.revision++
	putStatus(e.b, e.group, e.enabled, e.revision)
	return e.State
}

func (e edit) putUser(u *authpb.User) {
	name := string(u.Name)
	e.users[name] = u
	e.allowed[name] = permissionsOf(u, e.roles)
	putUser(e.b, e.group, u)
}

func (e edit) deleteUser(name string) {
	delete(e.users, name)
	delete(e.allowed, name)
	e.b.Delete(engine.Meta, rowKey(e.group, rowUser, name))
}

func (e edit) putRole(r *authpb.Role) {
	name := string(r.Name)
	e.roles[name] = r
	for user, u := range e.users {
		if hasRole(u, name) {
			e.allowed[user] = permissionsOf(u, e.roles)
		}
	}
	putRole(e.b, e.group, r)
}

// deleteRole also takes the role from every user, in the order of their names.
func (e edit) deleteRole(name string) {
	delete(e.roles, name)
	e.b.Delete(engine.Meta, rowKey(e.group, rowRole, name))
	for _, user := range names(e.users) {
		if u := e.users[user]; hasRole(u, name) {
			e.putUser(withRoles(u, without(u.Roles, name)))
		}
	}
}

// withRoles is the user with other roles.
func withRoles(u *authpb.User, roles []string) *authpb.User {
	return &authpb.User{Name: u.Name, Password: u.Password, Options: u.Options, Roles: roles}
}

func without(roles []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return r == name })
}

// Enable turns checking on. It wants a root user with the root role, and makes
// no revision.
func (s *State) Enable(b *engine.Batch) (*State, error) {
	if s.enabled {
		return s, nil
	}
	root, ok := s.users[rootUser]
	if !ok {
		return nil, ErrRootUserNotExist
	}
	if !hasRole(root, rootRole) {
		return nil, ErrRootRoleNotExist
	}
	next := *s
	next.enabled = true
	putStatus(b, s.group, true, s.revision)
	return &next, nil
}

// Disable turns checking off.
func (s *State) Disable(b *engine.Batch) *State {
	if !s.enabled {
		return s
	}
	e := s.edit(b)
	e.enabled = false
	return e.commit()
}

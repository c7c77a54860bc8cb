package auth

import (
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"

	"metastore.io/metastore/server/engine"
)

const (
	rootUser = "root"
	rootRole = "root"
	// firstRevision is that of users and roles that never changed.
	firstRevision = 1
)

// State is the users and roles of one group at one revision. It is immutable,
// and so are the messages that it holds: they are replaced, never changed.
type State struct {
	group    engine.GroupID
	enabled  bool
	revision uint64
	users    map[string]*authpb.User // Roles sorted
	roles    map[string]*authpb.Role // KeyPermission sorted by key
	// allowed is what the roles of each user allow together; derived, with one
	// item a user.
	allowed map[string]*permissions
}

func newState(g engine.GroupID) *State {
	return &State{
		group: g, revision: firstRevision,
		users: map[string]*authpb.User{}, roles: map[string]*authpb.Role{}, allowed: map[string]*permissions{},
	}
}

// Enabled tells whether requests are checked.
func (s *State) Enabled() bool { return s.enabled }

// Revision rises with every change of users and roles, and when authentication
// is disabled.
func (s *State) Revision() uint64 { return s.revision }

// Users are all users by name. Do not change them.
func (s *State) Users() []*authpb.User { return sorted(s.users) }

// Roles are all roles by name. Do not change them.
func (s *State) Roles() []*authpb.Role { return sorted(s.roles) }

func sorted[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, name := range names(m) {
		out = append(out, m[name])
	}
	return out
}

func names[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// UserNames lists the users.
func (s *State) UserNames() []string { return names(s.users) }

// RoleNames lists the roles.
func (s *State) RoleNames() []string { return names(s.roles) }

// UserRoles are the roles of a user.
func (s *State) UserRoles(name string) ([]string, error) {
	u, ok := s.users[name]
	if !ok {
		return nil, ErrUserNotFound
	}
	return slices.Clone(u.Roles), nil
}

// RolePermissions are those of a role; the root role has all.
func (s *State) RolePermissions(name string) ([]*authpb.Permission, error) {
	r, ok := s.roles[name]
	switch {
	case !ok:
		return nil, ErrRoleNotFound
	case name == rootRole:
		return []*authpb.Permission{{PermType: authpb.Permission_READWRITE, Key: []byte{}, RangeEnd: []byte{0}}}, nil
	}
	return slices.Clone(r.KeyPermission), nil
}

// HasRole tells whether a user exists and has a role.
func (s *State) HasRole(user, role string) bool {
	u, ok := s.users[user]
	return ok && hasRole(u, role)
}

func hasRole(u *authpb.User, role string) bool {
	_, ok := slices.BinarySearch(u.Roles, role)
	return ok
}

package auth

import (
	"bytes"
	"slices"
	"sort"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/engine"
)

// AddRole adds a role without permissions.
func (s *State) AddRole(b *engine.Batch, r *pb.AuthRoleAddRequest) (*State, error) {
	if r.Name == "" {
		return nil, ErrRoleEmpty
	}
	if _, ok := s.roles[r.Name]; ok {
		return nil, ErrRoleAlreadyExist
	}
	e := s.edit(b)
	e.putRole(&authpb.Role{Name: []byte(r.Name)})
	return e.commit(), nil
}

// DeleteRole removes a role, also from its users; the root role only while
// checking is off.
func (s *State) DeleteRole(b *engine.Batch, r *pb.AuthRoleDeleteRequest) (*State, error) {
	if s.enabled && r.Role == rootRole {
		return nil, ErrInvalidMgmt
	}
	if _, ok := s.roles[r.Role]; !ok {
		return nil, ErrRoleNotFound
	}
	e := s.edit(b)
	e.deleteRole(r.Role)
	return e.commit(), nil
}

// GrantPermission gives a role a permission for a range, or another type to one
// that it has.
func (s *State) GrantPermission(b *engine.Batch, r *pb.AuthRoleGrantPermissionRequest) (*State, error) {
	if r.Perm == nil {
		return nil, ErrPermissionNotGiven
	}
	if !validRange(r.Perm.Key, r.Perm.RangeEnd) {
		return nil, ErrInvalidMgmt
	}
	old, ok := s.roles[r.Name]
	if !ok {
		return nil, ErrRoleNotFound
	}
	e := s.edit(b)
	e.putRole(&authpb.Role{Name: old.Name, KeyPermission: withPermission(old.KeyPermission, r.Perm)})
	return e.commit(), nil
}

// withPermission keeps etcd's order, which callers see: by key only, by a sort
// that is not stable; and only the first permission of a key is compared.
func withPermission(perms []*authpb.Permission, p *authpb.Permission) []*authpb.Permission {
	given := &authpb.Permission{PermType: p.PermType, Key: p.Key, RangeEnd: p.RangeEnd}
	out := slices.Clone(perms)
	i := sort.Search(len(out), func(i int) bool { return bytes.Compare(out[i].Key, p.Key) >= 0 })
	if i < len(out) && sameRange(out[i], p.Key, p.RangeEnd) {
		out[i] = given
		return out
	}
	out = append(out, given)
	sort.Sort(byKey(out))
	return out
}

type byKey []*authpb.Permission

func (p byKey) Len() int           { return len(p) }
func (p byKey) Less(i, j int) bool { return bytes.Compare(p[i].Key, p[j].Key) < 0 }
func (p byKey) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }

func sameRange(p *authpb.Permission, key, end []byte) bool {
	return bytes.Equal(p.Key, key) && bytes.Equal(p.RangeEnd, end)
}

// RevokePermission takes every permission for exactly this range from a role.
func (s *State) RevokePermission(b *engine.Batch, r *pb.AuthRoleRevokePermissionRequest) (*State, error) {
	old, ok := s.roles[r.Role]
	if !ok {
		return nil, ErrRoleNotFound
	}
	kept := slices.DeleteFunc(slices.Clone(old.KeyPermission), func(p *authpb.Permission) bool {
		return sameRange(p, r.Key, r.RangeEnd)
	})
	if len(kept) == len(old.KeyPermission) {
		return nil, ErrPermissionNotGranted
	}
	e := s.edit(b)
	e.putRole(&authpb.Role{Name: old.Name, KeyPermission: kept})
	return e.commit(), nil
}

package auth

import (
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
)

const (
	read      = authpb.Permission_READ
	write     = authpb.Permission_WRITE
	readWrite = authpb.Permission_READWRITE
)

// open is the end of a range that has none.
const open = "\x00"

func perm(t authpb.Permission_Type, key, end string) *authpb.Permission {
	return &authpb.Permission{PermType: t, Key: []byte(key), RangeEnd: []byte(end)}
}

// What is asked for must be allowed from its first key to its last.
func TestRangesAreAllowedWhole(t *testing.T) {
	type ask struct {
		key, end string
		allowed  bool
	}
	for _, c := range []struct {
		name  string
		perms []*authpb.Permission
		asks  []ask
	}{
		{"nothing", nil, []ask{{"a", "", false}, {"a", "b", false}, {"\x00", open, false}}},
		{"one key", []*authpb.Permission{perm(read, "b", "")}, []ask{
			{"b", "", true}, {"a", "", false}, {"b\x00", "", false}, {"ba", "", false},
			{"b", "b\x00", true}, {"b", "b\x00\x00", false}, {"b", "c", false}, {"a", "c", false}, {"b", open, false},
		}},
		{"a range", []*authpb.Permission{perm(read, "b", "d")}, []ask{
			{"b", "", true}, {"c", "", true}, {"d", "", false}, {"czz", "", true}, {"a", "", false},
			{"b", "d", true}, {"b", "c", true}, {"c", "d", true}, {"c", "d\x00", false},
			{"a", "c", false}, {"a", "z", false}, {"b", "z", false}, {"b", open, false}, {"\x00", open, false},
		}},
		{"from a key on", []*authpb.Permission{perm(read, "m", open)}, []ask{
			{"m", "", true}, {"\xff\xff", "", true}, {"l\xff", "", false},
			{"m", open, true}, {"n", open, true}, {"l", open, false}, {"m", "z", true}, {"l", "z", false},
		}},
		{"everything", []*authpb.Permission{perm(read, "\x00", open)}, []ask{
			{"\x00", open, true}, {"a", "b", true}, {"\xff", "", true},
		}},
		{"ranges that touch", []*authpb.Permission{perm(read, "c", "e"), perm(read, "a", "c")}, []ask{
			{"a", "e", true}, {"b", "d", true}, {"a", "e\x00", false},
		}},
		{"ranges that overlap", []*authpb.Permission{perm(read, "a", "m"), perm(read, "c", "d"), perm(read, "k", "z")}, []ask{
			{"a", "z", true}, {"d", "y", true}, {"a", "zz", false},
		}},
		{"ranges with a gap", []*authpb.Permission{perm(read, "a", "c"), perm(read, "c\x00", "e")}, []ask{
			{"a", "e", false}, {"a", "c", true}, {"c\x00", "e", true}, {"c", "", false}, {"b", "d", false},
		}},
		{"a key that closes a gap", []*authpb.Permission{perm(read, "a", "c"), perm(read, "c", ""), perm(read, "c\x00", "e")}, []ask{
			{"a", "e", true}, {"c", "", true},
		}},
		{"an open range swallows later ones", []*authpb.Permission{perm(read, "b", open), perm(read, "c", "d"), perm(read, "x", "")}, []ask{
			{"c", open, true}, {"e", "f", true},
		}},
		{"a reversed range asks for its start", []*authpb.Permission{perm(read, "b", "d")}, []ask{
			{"c", "a", true}, {"c", "c", true}, {"e", "c", false}, {"a", "\x01", false},
		}},
	} {
		u := &authpb.User{Roles: []string{"r", "missing"}}
		p := permissionsOf(u, map[string]*authpb.Role{"r": {KeyPermission: c.perms}})
		for _, a := range c.asks {
			if got := p.read.cover(spanOf([]byte(a.key), []byte(a.end))); got != a.allowed {
				t.Errorf("%s: [%q, %q) is allowed: %v", c.name, a.key, a.end, got)
			}
			if p.write.cover(spanOf([]byte(a.key), []byte(a.end))) {
				t.Errorf("%s: [%q, %q) may be written", c.name, a.key, a.end)
			}
		}
	}
}

// All roles count together, and reading apart from writing.
func TestRolesCountTogether(t *testing.T) {
	roles := map[string]*authpb.Role{
		"one": {KeyPermission: []*authpb.Permission{perm(readWrite, "a", "c"), perm(write, "x", "")}},
		"two": {KeyPermission: []*authpb.Permission{perm(read, "c", "e")}},
	}
	p := permissionsOf(&authpb.User{Roles: []string{"one", "two"}}, roles)
	for _, c := range []struct {
		key, end string
		r, w     bool
	}{
		{"a", "e", true, false}, {"a", "c", true, true}, {"x", "", false, true}, {"d", "", true, false},
	} {
		s := spanOf([]byte(c.key), []byte(c.end))
		if p.read.cover(s) != c.r || p.write.cover(s) != c.w {
			t.Errorf("[%q, %q): read %v, write %v", c.key, c.end, p.read.cover(s), p.write.cover(s))
		}
	}
}

func TestPermissionRangesMakeSense(t *testing.T) {
	for _, c := range []struct {
		key, end string
		valid    bool
	}{
		{"", "", false}, {"", "b", false}, {"", open, false},
		{"a", "", true}, {"a", "b", true}, {"a", open, true}, {"\x00", open, true},
		{"a", "a", false}, {"b", "a", false}, {"a", "\x00\x00", false},
	} {
		if got := validRange([]byte(c.key), []byte(c.end)); got != c.valid {
			t.Errorf("[%q, %q) is valid: %v", c.key, c.end, got)
		}
	}
}

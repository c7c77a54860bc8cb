package auth

import (
	"bytes"
	"slices"
	"sort"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
)

// span is the keys from <= key < to. An open one has no end.
type span struct {
	from, to string
	open     bool
}

// spanOf reads a range by etcd's rules: without an end it is one key, and an
// end of one zero byte is no end.
func spanOf(key, end []byte) span {
	switch {
	case len(end) == 0:
		return span{from: string(key), to: string(key) + "\x00"}
	case isOpen(end):
		return span{from: string(key), open: true}
	}
	return span{from: string(key), to: string(end)}
}

func isOpen(end []byte) bool { return len(end) == 1 && end[0] == 0 }

// validRange tells whether a permission may be given for a range.
func validRange(key, end []byte) bool {
	switch {
	case len(key) == 0:
		return false
	case len(end) == 0, isOpen(end):
		return true
	}
	return bytes.Compare(key, end) < 0
}

// endsBefore compares where two spans end.
func (s span) endsBefore(o span) bool { return !s.open && (o.open || s.to < o.to) }

// spans are sorted, and between two of them is a gap: so what is covered by all
// of them together is covered by one.
type spans []span

// merge makes spans of any list.
func merge(list []span) spans {
	slices.SortFunc(list, func(a, b span) int { return strings.Compare(a.from, b.from) })
	var out spans
	for _, s := range list {
		if !s.open && s.from >= s.to {
			continue
		}
		last := len(out) - 1
		if last < 0 || (!out[last].open && out[last].to < s.from) {
			out = append(out, s)
			continue
		}
		if out[last].endsBefore(s) {
			out[last].to, out[last].open = s.to, s.open
		}
	}
	return out
}

// cover tells whether every key of a span is covered. A span whose end is not
// after its start holds no key; like etcd, it takes the start to be allowed.
func (list spans) cover(s span) bool {
	i := sort.Search(len(list), func(i int) bool { return list[i].from > s.from }) - 1
	if i < 0 || (!list[i].open && list[i].to <= s.from) {
		return false
	}
	return !list[i].endsBefore(s)
}

// permissions are what a user may do.
type permissions struct{ read, write spans }

func (p *permissions) of(need authpb.Permission_Type) spans {
	if need == authpb.Permission_READ {
		return p.read
	}
	return p.write
}

// permissionsOf brings the permissions of all roles of a user together. A role
// that is not there allows nothing.
func permissionsOf(u *authpb.User, roles map[string]*authpb.Role) *permissions {
	var read, write []span
	for _, name := range u.Roles {
		for _, p := range roles[name].GetKeyPermission() {
			s := spanOf(p.Key, p.RangeEnd)
			if p.PermType == authpb.Permission_READ || p.PermType == authpb.Permission_READWRITE {
				read = append(read, s)
			}
			if p.PermType == authpb.Permission_WRITE || p.PermType == authpb.Permission_READWRITE {
				write = append(write, s)
			}
		}
	}
	return &permissions{read: merge(read), write: merge(write)}
}

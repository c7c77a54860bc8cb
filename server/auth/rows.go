package auth

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/etcd/api/v3/authpb"

	"metastore.io/metastore/server/engine"
)

// Rows in engine.Meta. A key is the group (4 bytes, BE), "auth/" and:
//
//	"status"          enabled (1 B: 0 or 1) | revision (8 B, BE)
//	"user/" | name    flags (1 B) | password hash (bytes) | roles
//	"role/" | name    permissions
//
// Each value begins with its format version, one byte: 1. Bit 0 of a user's
// flags says that the user has no password; the other bits are 0. Bytes are a
// uvarint length and that many bytes; roles and permissions are a uvarint count
// and that many items:
//
//	role          name (bytes)
//	permission    type (uvarint, authpb's) | key (bytes) | range end (bytes)
const (
	rowVersion = 1

	rowsPrefix = "auth/"
	rowStatus  = "status"
	rowUser    = "user/"
	rowRole    = "role/"

	noPassword = 1
)

func rowKey(g engine.GroupID, kind, name string) []byte {
	key := g.Append(make([]byte, 0, 4+len(rowsPrefix)+len(kind)+len(name)))
	return append(append(append(key, rowsPrefix...), kind...), name...)
}

func putStatus(b *engine.Batch, g engine.GroupID, enabled bool, revision uint64) {
	v := []byte{rowVersion, 0}
	if enabled {
		v[1] = 1
	}
	b.Put(engine.Meta, rowKey(g, rowStatus, ""), binary.BigEndian.AppendUint64(v, revision))
}

func putUser(b *engine.Batch, g engine.GroupID, u *authpb.User) {
	v := []byte{rowVersion, 0}
	if u.GetOptions().GetNoPassword() {
		v[1] |= noPassword
	}
	v = appendBytes(v, u.Password)
	v = binary.AppendUvarint(v, uint64(len(u.Roles)))
	for _, role := range u.Roles {
		v = appendBytes(v, []byte(role))
	}
	b.Put(engine.Meta, rowKey(g, rowUser, string(u.Name)), v)
}

func putRole(b *engine.Batch, g engine.GroupID, r *authpb.Role) {
	v := binary.AppendUvarint([]byte{rowVersion}, uint64(len(r.KeyPermission)))
	for _, p := range r.KeyPermission {
		v = binary.AppendUvarint(v, uint64(uint32(p.PermType)))
		v = appendBytes(appendBytes(v, p.Key), p.RangeEnd)
	}
	b.Put(engine.Meta, rowKey(g, rowRole, string(r.Name)), v)
}

// Import stages users and roles that come from elsewhere, into a group that has
// none.
func Import(b *engine.Batch, g engine.GroupID, enabled bool, revision uint64, users []*authpb.User, roles []*authpb.Role) {
	putStatus(b, g, enabled, max(revision, firstRevision))
	for _, u := range users {
		putUser(b, g, u)
	}
	for _, r := range roles {
		putRole(b, g, r)
	}
}

// Open reads the users and roles of a group. Errors wrap engine.ErrCorrupt
// where a row does not decode.
func Open(r engine.Reader, g engine.GroupID) (*State, error) {
	s := newState(g)
	prefix := rowKey(g, "", "")
	err := r.Scan(engine.Meta, prefix, engine.PrefixEnd(prefix), func(key, value []byte) (bool, error) {
		name := key[len(prefix):]
		if err := s.row(name, bytes.Clone(value)); err != nil {
			return false, fmt.Errorf("row %q: %w: %w", name, err, engine.ErrCorrupt)
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read users and roles: %w", err)
	}
	for name, u := range s.users {
		s.allowed[name] = permissionsOf(u, s.roles)
	}
	return s, nil
}

// row takes one row in; it may keep the value.
func (s *State) row(key, value []byte) error {
	d := decoder{b: value}
	if v := d.byte(); v != rowVersion {
		d.fail(fmt.Errorf("format version %d, only %d is known", v, rowVersion))
	}
	name := string(key)
	switch {
	case name == rowStatus:
		s.enabled = d.flags(1) != 0
		s.revision = d.uint64()
	case bytes.HasPrefix(key, []byte(rowUser)):
		name = name[len(rowUser):]
		s.users[name] = d.user(name)
	case bytes.HasPrefix(key, []byte(rowRole)):
		name = name[len(rowRole):]
		s.roles[name] = d.role(name)
	default:
		return errors.New("unknown name")
	}
	return d.end()
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// decoder reads fields one after the other. After the first failure all reads
// give zero values; end reports it.
type decoder struct {
	b   []byte
	err error
}

var errShort = errors.New("it ends too early")

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err, d.b = err, nil
	}
}

func (d *decoder) take(n uint64) []byte {
	if uint64(len(d.b)) < n {
		d.fail(errShort)
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); len(v) == 1 {
		return v[0]
	}
	return 0
}

// flags reads a byte that has no bits beyond the known ones.
func (d *decoder) flags(known byte) byte {
	v := d.byte()
	if v&^known != 0 {
		d.fail(fmt.Errorf("unknown flags %#x", v))
		return 0
	}
	return v
}

func (d *decoder) uint64() uint64 {
	if v := d.take(8); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// uvarint reads a minimal uvarint.
func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || (n > 1 && d.b[n-1] == 0) {
		d.fail(errors.New("invalid uvarint"))
		return 0
	}
	d.b = d.b[n:]
	return v
}

// uint32 reads a uvarint of at most 32 bits.
func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.fail(fmt.Errorf("%d does not fit into 32 bits", v))
	}
	return uint32(v)
}

func (d *decoder) bytes() []byte { return d.take(d.uvarint()) }

func (d *decoder) user(name string) *authpb.User {
	u := &authpb.User{Name: []byte(name), Options: &authpb.UserAddOptions{NoPassword: d.flags(noPassword) != 0}}
	u.Password = d.bytes()
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		u.Roles = append(u.Roles, string(d.bytes()))
	}
	return u
}

func (d *decoder) role(name string) *authpb.Role {
	r := &authpb.Role{Name: []byte(name)}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		p := &authpb.Permission{PermType: authpb.Permission_Type(d.uint32())}
		p.Key, p.RangeEnd = d.bytes(), d.bytes()
		r.KeyPermission = append(r.KeyPermission, p)
	}
	return r
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail(fmt.Errorf("%d bytes too many", len(d.b)))
	}
	return d.err
}

package etcdfile

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/state"
)

// authRows are users, roles, and whether they count.
func authRows(s *state.Snapshot) ([]rowPut, error) {
	a, err := auth.Open(s, s.Group)
	if err != nil {
		return nil, err
	}
	enabled := []byte{0}
	if a.Enabled() {
		enabled[0] = 1
	}
	puts := []rowPut{
		{bucketAuth, authEnabled, enabled},
		{bucketAuth, authRevision, uint64Bytes(a.Revision())},
	}
	for _, u := range a.Users() {
		v, err := proto.Marshal(u)
		if err != nil {
			return nil, fmt.Errorf("encode user %q: %w", u.Name, err)
		}
		puts = append(puts, rowPut{bucketAuthUsers, u.Name, v})
	}
	for _, r := range a.Roles() {
		v, err := proto.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode role %q: %w", r.Name, err)
		}
		puts = append(puts, rowPut{bucketAuthRoles, r.Name, v})
	}
	return puts, nil
}

// auth stages users and roles.
func (c *copier) auth(tx *bbolt.Tx) error {
	b := tx.Bucket(bucketAuth)
	if b == nil {
		return nil
	}
	v := b.Get(authEnabled)
	enabled := len(v) == 1 && v[0] == 1
	var revision uint64
	if v = b.Get(authRevision); len(v) == 8 {
		revision = binary.BigEndian.Uint64(v)
	}
	users, err := readMessages(tx.Bucket(bucketAuthUsers), func() *authpb.User { return &authpb.User{} })
	if err != nil {
		return fmt.Errorf("user %w", err)
	}
	roles, err := readMessages(tx.Bucket(bucketAuthRoles), func() *authpb.Role { return &authpb.Role{} })
	if err != nil {
		return fmt.Errorf("role %w", err)
	}
	auth.Import(c.batch, c.group, enabled, revision, users, roles)
	return nil
}

// named is a message that is stored under its name.
type named interface {
	proto.Message
	GetName() []byte
}

func readMessages[M named](b *bbolt.Bucket, make func() M) (all []M, err error) {
	if b == nil {
		return nil, nil
	}
	err = b.ForEach(func(k, v []byte) error {
		m := make()
		if err := proto.Unmarshal(v, m); err != nil {
			return fmt.Errorf("%q: %w: %w", k, err, engine.ErrCorrupt)
		}
		if string(m.GetName()) != string(k) {
			return fmt.Errorf("%q: its row names %q: %w", k, m.GetName(), engine.ErrCorrupt)
		}
		all = append(all, m)
		return nil
	})
	return all, err
}

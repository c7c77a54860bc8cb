package main

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// filler writes something of everything; after an error it does nothing.
type filler struct {
	ctx    context.Context
	c      *clientv3.Client
	leases []clientv3.LeaseID
	revs   []int64
	err    error
}

func (f *filler) try(_ any, err error) {
	if f.err == nil {
		f.err = err
	}
}

// put writes keys and notes the revision.
func (f *filler) put(from, to int, value string, o ...clientv3.OpOption) {
	for i := from; i < to && f.err == nil; i++ {
		f.try(f.c.Put(f.ctx, fmt.Sprintf("key/%03d", i), fmt.Sprintf("%s/%d", value, i), o...))
	}
	f.note()
}

func (f *filler) note() {
	if f.err != nil {
		return
	}
	r, err := f.c.Get(f.ctx, "none")
	f.try(r, err)
	if err == nil {
		f.revs = append(f.revs, r.Header.Revision)
	}
}

func (f *filler) fill() {
	for i := range 2 {
		l, err := f.c.Grant(f.ctx, int64(100_000+i))
		f.try(l, err)
		if err != nil {
			return
		}
		f.leases = append(f.leases, l.ID)
	}
	c, ctx := f.c, f.ctx
	f.try(c.RoleAdd(ctx, "root"))
	f.try(c.UserAdd(ctx, "root", "of all"))
	f.try(c.UserGrantRole(ctx, "root", "root"))
	f.try(c.RoleAdd(ctx, "reader"))
	f.try(c.RoleGrantPermission(ctx, "reader", "key/", "key0", clientv3.PermissionType(clientv3.PermRead)))
	f.try(c.UserAdd(ctx, "guest", "secret"))
	f.try(c.UserGrantRole(ctx, "guest", "reader"))
	f.put(0, 120, "first")
	f.put(20, 40, "leased", clientv3.WithLease(f.leases[0]))
	f.try(c.Delete(ctx, "key/03", clientv3.WithPrefix()))
	f.try(c.Compact(ctx, f.revs[1]-5, clientv3.WithCompactPhysical()))
	f.revs = f.revs[1:] // the first one is gone
	f.note()
	f.put(30, 35, "again", clientv3.WithLease(f.leases[1]))
	f.try(c.Txn(ctx).Then(clientv3.OpPut("bin\x00\xff", "\x00\xfe"), clientv3.OpPut("empty", ""), clientv3.OpDelete("key/11", clientv3.WithPrefix())).Commit())
	f.note()
}

// answers are what the test compares.
type answers struct {
	Version   string
	Revisions []revision
	Leases    []leaseAnswer
	Users     map[string][]string
	Roles     map[string][]permission
}

type permission struct {
	Type          int32
	Key, RangeEnd []byte
}

type revision struct {
	Revision, CompactRevision int64
	Hash                      uint32
	KVs                       []*mvccpb.KeyValue
}

type leaseAnswer struct {
	ID, GrantedTTL int64
	Keys           [][]byte
}

func ask(ctx context.Context, c *clientv3.Client, endpoint string, f filler) (a answers, err error) {
	s, err := c.Status(ctx, endpoint)
	if err != nil {
		return a, err
	}
	a = answers{Version: s.Version, Users: map[string][]string{}, Roles: map[string][]permission{}}
	for _, rev := range f.revs {
		r, err := c.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(rev))
		if err != nil {
			return a, err
		}
		h, err := c.HashKV(ctx, endpoint, rev)
		if err != nil {
			return a, err
		}
		a.Revisions = append(a.Revisions, revision{rev, h.CompactRevision, h.Hash, r.Kvs})
	}
	for _, id := range f.leases {
		l, err := c.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
		if err != nil {
			return a, err
		}
		a.Leases = append(a.Leases, leaseAnswer{int64(id), l.GrantedTTL, l.Keys})
	}
	for _, name := range []string{"root", "guest"} {
		u, err := c.UserGet(ctx, name)
		if err != nil {
			return a, err
		}
		a.Users[name] = u.Roles
	}
	// What the role root may do is in no row, and versions answer it differently.
	r, err := c.RoleGet(ctx, "reader")
	if err != nil {
		return a, err
	}
	for _, p := range r.Perm {
		a.Roles["reader"] = append(a.Roles["reader"], permission{int32(p.PermType), p.Key, p.RangeEnd})
	}
	return a, nil
}

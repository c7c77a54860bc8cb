package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// roundTripKeys is how many keys go there and back.
const roundTripKeys = 100_000

// dataset is what fill left in a store.
type dataset struct {
	// revs are revisions that can be read, ascending; the store is compacted to
	// the first one. hashes are those whose hashes are compared: of the first
	// one the store that compacted answers with what it remembers of before.
	revs, hashes []int64
	leases       []clientv3.LeaseID
}

// filler writes a dataset.
type filler struct {
	t   *testing.T
	ctx context.Context
	c   *clientv3.Client
}

// fill writes 100,000 keys with history, leases, deleted keys and a compaction,
// and users with roles.
func fill(t *testing.T, c *clientv3.Client) dataset {
	t.Helper()
	f := &filler{t, within(t, 5*time.Minute), c}
	var d dataset
	for i := range 3 {
		l, err := c.Grant(f.ctx, int64(3600+i))
		f.must(err)
		d.leases = append(d.leases, l.ID)
	}
	f.users()
	f.round(0, roundTripKeys, "first")
	f.round(1000, 13_000, "leased", clientv3.WithLease(d.leases[0]))
	f.write(clientv3.OpDelete("key/0005", clientv3.WithPrefix()))
	f.round(2000, 2500, "moved", clientv3.WithLease(d.leases[1]))
	compacted := f.write(clientv3.OpDelete("key/0006", clientv3.WithPrefix()), clientv3.OpPut("bin\x00\xff", "\x00\xfe"))
	f.round(500, 700, "again")
	f.write(clientv3.OpDelete("key/0007", clientv3.WithPrefix()))
	middle := f.write(clientv3.OpPut("empty", ""))
	f.round(700, 800, "back")
	newest := f.round(10_000, 32_000, "last")
	_, err := c.Compact(f.ctx, compacted, clientv3.WithCompactPhysical())
	f.must(err)
	d.revs = []int64{compacted, compacted + 1, middle, newest}
	d.hashes = d.revs[1:]
	return d
}

func (f *filler) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *filler) write(ops ...clientv3.Op) int64 {
	f.t.Helper()
	r, err := f.c.Txn(f.ctx).Then(ops...).Commit()
	f.must(err)
	return r.Header.Revision
}

// round puts keys from several goroutines and returns the newest revision.
func (f *filler) round(from, to int, value string, put ...clientv3.OpOption) int64 {
	f.t.Helper()
	const perTxn, writers = 100, 4
	var wg sync.WaitGroup
	revs, errs := make([]int64, writers), make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for k := from + w*perTxn; k < to && errs[w] == nil; k += writers * perTxn {
				var ops []clientv3.Op
				for i := k; i < min(k+perTxn, to); i++ {
					ops = append(ops, clientv3.OpPut(fmt.Sprintf("key/%06d", i), fmt.Sprintf("%s/%d", value, i), put...))
				}
				var r *clientv3.TxnResponse
				if r, errs[w] = f.c.Txn(f.ctx).Then(ops...).Commit(); errs[w] == nil {
					revs[w] = r.Header.Revision
				}
			}
		})
	}
	wg.Wait()
	f.must(errors.Join(errs...))
	return slices.Max(revs)
}

// users are root and guest, who may read the keys.
func (f *filler) users() {
	f.t.Helper()
	c, ctx := f.c, f.ctx
	var errs [8]error
	_, errs[0] = c.RoleAdd(ctx, "root")
	_, errs[1] = c.UserAdd(ctx, "root", "of all")
	_, errs[2] = c.UserGrantRole(ctx, "root", "root")
	_, errs[3] = c.RoleAdd(ctx, "reader")
	_, errs[4] = c.RoleGrantPermission(ctx, "reader", "key/", "key0", clientv3.PermissionType(clientv3.PermRead))
	_, errs[5] = c.UserAdd(ctx, "guest", "secret")
	_, errs[6] = c.UserGrantRole(ctx, "guest", "reader")
	_, errs[7] = c.UserAddWithOptions(ctx, "by certificate", "", &clientv3.UserAddOptions{NoPassword: true})
	f.must(errors.Join(errs[:]...))
}

// wantSame compares all that two stores can tell: keys at revisions, events since
// the compaction, hashes, leases with their keys, users and roles.
func wantSame(t *testing.T, got, want *clientv3.Client, d dataset) {
	t.Helper()
	for _, rev := range d.revs {
		g, w := rangeAll(t, got, rev), rangeAll(t, want, rev)
		if g.Count != w.Count || len(w.Kvs) < roundTripKeys*9/10 || g.Header.Revision < rev || !slices.EqualFunc(g.Kvs, w.Kvs, sameKV) {
			t.Errorf("revision %d: %d keys, or their contents, differ from the %d wanted", rev, g.Count, w.Count)
		}
	}
	oldest, newest := d.revs[0], d.revs[len(d.revs)-1]
	g, w := eventsOf(t, got, oldest+1, newest), eventsOf(t, want, oldest+1, newest)
	t.Logf("%d revisions, each of %d keys and more, and %d events compared", len(d.revs), roundTripKeys*9/10, len(w))
	if !slices.EqualFunc(g, w, sameEvent) {
		t.Errorf("%d events from revision %d to %d, or their contents, differ from the %d wanted", len(g), oldest+1, newest, len(w))
	}
	wantSameHashes(t, got, want, d.hashes)
	wantSameLeases(t, got, want, d.leases)
	wantSameUsers(t, got, want)
	if _, err := got.Get(within(t, time.Minute), "x", clientv3.WithRev(oldest-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a read before the compacted revision: %v", err)
	}
}

// sameKV and sameEvent compare all fields.
func sameKV(a, b *mvccpb.KeyValue) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.CreateRevision == b.CreateRevision &&
		a.ModRevision == b.ModRevision && a.Version == b.Version && a.Lease == b.Lease
}

func sameEvent(a, b *clientv3.Event) bool {
	return a.Type == b.Type && sameKV(a.Kv, b.Kv) && (a.PrevKv == nil) == (b.PrevKv == nil) && (a.PrevKv == nil || sameKV(a.PrevKv, b.PrevKv))
}

func rangeAll(t *testing.T, c *clientv3.Client, rev int64) *clientv3.GetResponse {
	t.Helper()
	r, err := c.Get(within(t, time.Minute), "\x00", clientv3.WithFromKey(), clientv3.WithRev(rev))
	if err != nil {
		t.Fatalf("range at %d: %v", rev, err)
	}
	return r
}

// eventsOf watches everything from one revision to another.
func eventsOf(t *testing.T, c *clientv3.Client, from, to int64) (events []*clientv3.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if from > to {
		return nil
	}
	for w := range c.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(from), clientv3.WithPrevKV()) {
		if err := w.Err(); err != nil {
			t.Fatalf("watch from %d: %v", from, err)
		}
		for _, e := range w.Events {
			if e.Kv.ModRevision > to {
				return events
			}
			events = append(events, e)
		}
		if n := len(events); n > 0 && events[n-1].Kv.ModRevision == to && w.Header.Revision >= to {
			return events
		}
	}
	t.Fatalf("the watch from %d to %d ends after %d events", from, to, len(events))
	return nil
}

func wantSameHashes(t *testing.T, got, want *clientv3.Client, revs []int64) {
	t.Helper()
	ctx := within(t, time.Minute)
	for _, rev := range revs {
		g, err1 := got.HashKV(ctx, got.Endpoints()[0], rev)
		w, err2 := want.HashKV(ctx, want.Endpoints()[0], rev)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatalf("hash of revision %d: %v", rev, err)
		}
		if g.Hash != w.Hash || g.CompactRevision != w.CompactRevision {
			t.Errorf("hash of revision %d: %x compacted to %d, want %x compacted to %d", rev, g.Hash, g.CompactRevision, w.Hash, w.CompactRevision)
		}
	}
}

func wantSameLeases(t *testing.T, got, want *clientv3.Client, ids []clientv3.LeaseID) {
	t.Helper()
	ctx := within(t, time.Minute)
	list, err := got.Leases(ctx)
	if err != nil || len(list.Leases) != len(ids) {
		t.Errorf("leases %v, want %x: %v", list, ids, err)
	}
	for _, id := range ids {
		g, err1 := got.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
		w, err2 := want.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
		if err := errors.Join(err1, err2); err != nil {
			t.Fatalf("lease %x: %v", id, err)
		}
		if g.GrantedTTL != w.GrantedTTL || g.TTL <= 0 || !slices.EqualFunc(sorted(g.Keys), sorted(w.Keys), bytes.Equal) {
			t.Errorf("lease %x: TTL %d of %d with %d keys, want one of %d with %d keys", id, g.TTL, g.GrantedTTL, len(g.Keys), w.GrantedTTL, len(w.Keys))
		}
	}
}

func sorted(keys [][]byte) [][]byte {
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

func wantSameUsers(t *testing.T, got, want *clientv3.Client) {
	t.Helper()
	g, w := usersAndRoles(t, got), usersAndRoles(t, want)
	if !slices.Equal(g, w) || len(w) != 5 {
		t.Errorf("users and roles are\n%q, want\n%q", g, w)
	}
}

func usersAndRoles(t *testing.T, c *clientv3.Client) (all []string) {
	t.Helper()
	ctx := within(t, time.Minute)
	users, err1 := c.UserList(ctx)
	roles, err2 := c.RoleList(ctx)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for _, name := range users.Users {
		u, err := c.UserGet(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s is %q", name, u.Roles))
	}
	for _, name := range roles.Roles {
		r, err := c.RoleGet(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		line := name + " may"
		for _, p := range r.Perm {
			line += fmt.Sprintf(" %s %q to %q", p.PermType, p.Key, p.RangeEnd)
		}
		all = append(all, line)
	}
	return all
}

// wantGuest turns auth on and lets guest in, who may read key and not write it.
func wantGuest(t *testing.T, c *clientv3.Client, key, value string) {
	t.Helper()
	ctx := within(t, time.Minute)
	if _, err := c.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
	guest, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints()[:1], Username: "guest", Password: "secret", Logger: zap.NewNop(), DialTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	if r, err := guest.Get(ctx, key); err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != value {
		t.Errorf("guest reads %v: %v", r, err)
	}
	if _, err := guest.Put(ctx, key, ""); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("guest writes: %v", err)
	}
}

// A snapshot of MetaStore, saved by etcdctl while clients write, starts a real
// etcd.
func TestSnapshotStartsEtcd(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		m := newMember(t, "m0", engine)
		m.start()
		m.waitServing()
		c := client(t, m)
		d := fill(t, c)
		file := filepath.Join(t.TempDir(), "snapshot.db")
		stop := keepWriting(t, c)
		newCtl(t, m).run("snapshot", "save", file)
		stop()
		wantNothingLeft(t, m)
		wantStatus(t, file)

		etcd := restoreEtcd(t, file, 0)
		now := rangeAll(t, etcd.client3, 0).Header.Revision
		d.revs, d.hashes = append(d.revs, now), append(d.hashes, now)
		wantSame(t, etcd.client3, c, d)
		ctx := within(t, time.Minute)
		if r, err := etcd.client3.Put(ctx, "new", "v"); err != nil || r.Header.Revision != now+1 {
			t.Errorf("a put after the restore: %v, %v", r, err)
		}
		if r, err := etcd.client3.MemberList(ctx); err != nil || len(r.Members) != 1 || r.Members[0].Name != "etcd" {
			t.Errorf("members after the restore: %v, %v", r, err)
		}
		wantGuest(t, etcd.client3, "key/000001", "first/1")
	})
}

// A snapshot of a real etcd starts a cluster of three, as it is and with its
// revision bumped.
func TestSnapshotOfEtcdRestores(t *testing.T) {
	etcd := startEtcd(t, t.TempDir(), freeAddress(t))
	d := fill(t, etcd.client3)
	file := save(t, etcd.client3)
	wantStatus(t, file)
	eachEngine(t, func(t *testing.T, engine string) {
		members := restoreCluster(t, engine, file)
		wantSame(t, client(t, members[1]), etcd.client3, d)
		newest := d.revs[len(d.revs)-1]
		c := client(t, members...)
		if r, err := c.Put(within(t, time.Minute), "new", "v"); err != nil || r.Header.Revision != newest+1 {
			t.Errorf("a put after the restore: %v, %v", r, err)
		}
		checkHashes(t, members)
		members[0].kill()
		members[0].start()
		members[0].waitServing()
		wantSame(t, client(t, members[0]), etcd.client3, d)
		checkHashes(t, members)
		wantGuest(t, client(t, members[2]), "key/000001", "first/1")
	})
	t.Run("bumped", func(t *testing.T) { wantBumped(t, file, etcd.client3, d) })
}

// wantBumped compares a store whose revision was bumped with an etcd likewise.
func wantBumped(t *testing.T, file string, before *clientv3.Client, d dataset) {
	const bump = 1_000_000
	want := restoreEtcd(t, file, bump)
	newest := d.revs[len(d.revs)-1] + bump
	d.revs, d.hashes = []int64{newest}, []int64{newest}
	eachEngine(t, func(t *testing.T, engine string) {
		m := newMember(t, "m0", engine)
		m.restore(file, "--bump-revision", fmt.Sprint(bump), "--mark-compacted")
		m.start()
		m.waitServing()
		c := client(t, m)
		wantSame(t, c, want.client3, d)
		got := rangeAll(t, c, 0)
		if kvs := rangeAll(t, before, 0).Kvs; got.Header.Revision != newest || !slices.EqualFunc(got.Kvs, kvs, sameKV) {
			t.Errorf("%d keys at revision %d, want %d as they were, at %d", len(got.Kvs), got.Header.Revision, len(kvs), newest)
		}
	})
}

// restoreCluster makes three data dirs of a file, and starts them.
func restoreCluster(t *testing.T, engine, file string) []*member {
	t.Helper()
	members := newCluster(t, engine, 3)
	for _, m := range members {
		m.restore(file)
		m.start()
	}
	for _, m := range members {
		m.waitServing()
	}
	return members
}

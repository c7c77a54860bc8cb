// Command walk does a little of everything that etcd's client can, against the
// endpoint that it is given, and says which step failed. The runner beside it
// builds it with the clients of older versions, too, so that it keeps to what all
// of them have.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: walk ENDPOINT")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w := walk{ctx: ctx, endpoint: os.Args[1]}
	if err := w.all(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type walk struct {
	ctx      context.Context
	endpoint string
	c        *clientv3.Client
}

func (w *walk) dial(user, password string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{w.endpoint}, DialTimeout: 20 * time.Second, Username: user, Password: password,
	})
}

func (w *walk) all() (err error) {
	if w.c, err = w.dial("", ""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.c.Close()) }()
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"keys", w.keys}, {"transactions", w.txn}, {"watches", w.watch}, {"leases", w.lease}, {"locks", w.lock},
		{"elections", w.election}, {"compaction", w.compact}, {"members", w.members}, {"snapshot", w.snapshot}, {"users", w.users},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// check is an error that says what should have been.
func check(ok bool, format string, a ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, a...)
}

func (w *walk) keys() error {
	for _, value := range []string{"1", "2"} {
		if _, err := w.c.Put(w.ctx, "walk/a", value); err != nil {
			return err
		}
	}
	if _, err := w.c.Put(w.ctx, "walk/\xff", "odd"); err != nil {
		return err
	}
	r, err := w.c.Get(w.ctx, "walk/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		return err
	}
	if err := check(r.Count == 2 && string(r.Kvs[1].Value) == "2" && r.Kvs[1].Version >= 2, "got %v", r); err != nil {
		return err
	}
	old, err := w.c.Get(w.ctx, "walk/a", clientv3.WithRev(r.Kvs[1].ModRevision-1))
	if err != nil {
		return err
	}
	if err := check(len(old.Kvs) == 1 && string(old.Kvs[0].Value) == "1", "the revision before: %v", old); err != nil {
		return err
	}
	d, err := w.c.Delete(w.ctx, "walk/\xff", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	return check(d.Deleted == 1 && string(d.PrevKvs[0].Value) == "odd", "deleted %v", d)
}

func (w *walk) txn() error {
	is := func(value string) clientv3.Cmp { return clientv3.Compare(clientv3.Value("walk/a"), "=", value) }
	t, err := w.c.Txn(w.ctx).If(is("2")).Then(clientv3.OpPut("walk/a", "3"), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpGet("walk/a")}, nil)).Commit()
	if err != nil {
		return err
	}
	if err := check(t.Succeeded && len(t.Responses) == 2, "got %v", t); err != nil {
		return err
	}
	t, err = w.c.Txn(w.ctx).If(is("2")).Then(clientv3.OpPut("walk/a", "4")).Else(clientv3.OpGet("walk/a")).Commit()
	if err != nil {
		return err
	}
	return check(!t.Succeeded && string(t.Responses[0].GetResponseRange().Kvs[0].Value) == "3", "got %v", t)
}

func (w *walk) watch() error {
	p, err := w.c.Put(w.ctx, "walk/w", "1")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	// One from the past, which goes on.
	events := w.c.Watch(ctx, "walk/w", clientv3.WithRev(p.Header.Revision), clientv3.WithPrevKV())
	if _, err := w.c.Delete(w.ctx, "walk/w"); err != nil {
		return err
	}
	var seen []*clientv3.Event
	for len(seen) < 2 {
		r, ok := <-events
		if err := check(ok && r.Err() == nil, "ended: %v", r.Err()); err != nil {
			return err
		}
		seen = append(seen, r.Events...)
	}
	return check(seen[0].IsCreate() && seen[1].Type == clientv3.EventTypeDelete && string(seen[1].PrevKv.Value) == "1", "got %v", seen)
}

func (w *walk) lease() error {
	l, err := w.c.Grant(w.ctx, 60)
	if err != nil {
		return err
	}
	if _, err := w.c.Put(w.ctx, "walk/l", "", clientv3.WithLease(l.ID)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	alive, err := w.c.KeepAlive(ctx, l.ID)
	if err != nil {
		return err
	}
	if r := <-alive; r == nil || r.TTL != 60 {
		return fmt.Errorf("renewed: %v", r)
	}
	ttl, err := w.c.TimeToLive(w.ctx, l.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	if err := check(ttl.GrantedTTL == 60 && len(ttl.Keys) == 1, "got %v", ttl); err != nil {
		return err
	}
	if _, err := w.c.Revoke(w.ctx, l.ID); err != nil {
		return err
	}
	g, err := w.c.Get(w.ctx, "walk/l")
	if err != nil {
		return err
	}
	return check(g.Count == 0, "the key outlives its lease: %v", g)
}

func (w *walk) lock() error {
	var mutexes [2]*concurrency.Mutex
	for i := range mutexes {
		s, err := concurrency.NewSession(w.c, concurrency.WithTTL(20))
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }() // the lease ends by itself
		mutexes[i] = concurrency.NewMutex(s, "walk/lock")
	}
	if err := mutexes[0].Lock(w.ctx); err != nil {
		return err
	}
	locked := make(chan error, 1)
	go func() { locked <- mutexes[1].Lock(w.ctx) }()
	if err := mutexes[0].Unlock(w.ctx); err != nil {
		return err
	}
	if err := <-locked; err != nil {
		return err
	}
	return mutexes[1].Unlock(w.ctx)
}

func (w *walk) election() error {
	s, err := concurrency.NewSession(w.c, concurrency.WithTTL(20))
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // the lease ends by itself
	e := concurrency.NewElection(s, "walk/election")
	if err := e.Campaign(w.ctx, "me"); err != nil {
		return err
	}
	leader, err := e.Leader(w.ctx)
	if err != nil {
		return err
	}
	if err := check(string(leader.Kvs[0].Value) == "me", "leader: %v", leader); err != nil {
		return err
	}
	return e.Resign(w.ctx)
}

func (w *walk) compact() error {
	p, err := w.c.Put(w.ctx, "walk/a", "5")
	if err != nil {
		return err
	}
	if _, err := w.c.Compact(w.ctx, p.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	_, err = w.c.Get(w.ctx, "walk/a", clientv3.WithRev(p.Header.Revision-1))
	return check(err != nil && err.Error() == "etcdserver: mvcc: required revision has been compacted", "a compacted revision: %v", err)
}

func (w *walk) members() error {
	m, err := w.c.MemberList(w.ctx)
	if err != nil {
		return err
	}
	st, err := w.c.Status(w.ctx, w.endpoint)
	if err != nil {
		return err
	}
	if _, err := w.c.Defragment(w.ctx, w.endpoint); err != nil {
		return err
	}
	return check(len(m.Members) == 1 && st.Leader == m.Members[0].ID, "members %v, status %v", m, st)
}

// snapshot reads one to its end, which is its checksum.
func (w *walk) snapshot() (err error) {
	r, err := w.c.Snapshot(w.ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	size := len(b) - sha256.Size
	if err := check(size > 0, "%d bytes", len(b)); err != nil {
		return err
	}
	sum := sha256.Sum256(b[:size])
	return check(bytes.Equal(sum[:], b[size:]), "of %d bytes the checksum is wrong", len(b))
}

func (w *walk) users() (err error) {
	const root, user = "root", "walker"
	steps := []func() error{
		func() error { _, err := w.c.UserAdd(w.ctx, root, root); return err },
		func() error { _, err := w.c.UserGrantRole(w.ctx, root, root); return err },
		func() error { _, err := w.c.RoleAdd(w.ctx, user); return err },
		func() error {
			_, err := w.c.RoleGrantPermission(w.ctx, user, "walk/", "walk0", clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := w.c.UserAdd(w.ctx, user, user); return err },
		func() error { _, err := w.c.UserGrantRole(w.ctx, user, user); return err },
		func() error { _, err := w.c.AuthEnable(w.ctx); return err },
	}
	if _, err := w.c.RoleAdd(w.ctx, root); err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return errors.Join(w.asUser(user), w.tidyUsers(root, user))
}

// asUser does what a user may, and may not.
func (w *walk) asUser(user string) (err error) {
	c, err := w.dial(user, user)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := c.Put(w.ctx, "walk/a", "mine"); err != nil {
		return err
	}
	_, err = c.Put(w.ctx, "other", "")
	return check(err != nil && err.Error() == "etcdserver: permission denied", "a key of others: %v", err)
}

// tidyUsers leaves none, for the next walk.
func (w *walk) tidyUsers(root, user string) (err error) {
	c, err := w.dial(root, root)
	if err != nil {
		return err
	}
	if _, err = c.AuthDisable(w.ctx); err != nil {
		return errors.Join(err, c.Close())
	}
	for _, name := range []string{root, user} {
		if _, err := w.c.UserDelete(w.ctx, name); err != nil {
			return errors.Join(err, c.Close())
		}
		if _, err := w.c.RoleDelete(w.ctx, name); err != nil {
			return errors.Join(err, c.Close())
		}
	}
	return c.Close()
}

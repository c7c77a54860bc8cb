package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"metastore.io/metastore/server/node"
)

// joiner is a member that is to join the others.
func joiner(t *testing.T, name, engine string, members []*member) *member {
	t.Helper()
	m := newMember(t, name, engine)
	m.state = "existing"
	for _, o := range members {
		m.initial += fmt.Sprintf(",%s=http://%s", o.name, o.peer)
	}
	return m
}

// addLearner adds a member; a cluster whose members have just connected refuses
// for a while, as etcd's does.
func addLearner(t *testing.T, c *clientv3.Client, m *member) uint64 {
	t.Helper()
	var id uint64
	eventually(t, 30*time.Second, func() error {
		r, err := c.MemberAddAsLearner(within(t, 10*time.Second), []string{"http://" + m.peer})
		if err != nil && !errors.Is(err, rpctypes.ErrUnhealthy) {
			t.Fatal(err)
		}
		if err == nil {
			id = r.Member.ID
		}
		return err
	})
	return id
}

func promote(t *testing.T, c *clientv3.Client, id uint64) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		_, err := c.MemberPromote(within(t, 10*time.Second), id)
		if err != nil && !errors.Is(err, rpctypes.ErrMemberLearnerNotReady) && !errors.Is(err, rpctypes.ErrUnhealthy) && !errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) {
			t.Fatal(err)
		}
		return err
	})
}

// One member grows to three by learners, under load; one is removed and ends;
// the rest goes on.
func TestGrowAndShrink(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		members := startCluster(t, engine, 1)
		c := client(t, members...)
		l := startLoad(c, 2)
		defer l.end()
		ids := map[*member]uint64{}
		for _, name := range []string{"m1", "m2"} {
			m := joiner(t, name, engine, members)
			id := addLearner(t, c, m)
			if _, err := c.MemberPromote(within(t, 10*time.Second), id); !errors.Is(err, rpctypes.ErrMemberLearnerNotReady) && !errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) {
				t.Fatalf("promoting a learner that never started: %v", err)
			}
			m.start()
			promote(t, c, id)
			members = append(members, m)
			m.waitServing()
			ids[m] = id
		}
		list, err := c.MemberList(within(t, 10*time.Second))
		if err != nil || len(list.Members) != 3 {
			t.Fatalf("members %v, %v", list, err)
		}
		for _, m := range list.Members {
			if m.IsLearner || m.Name == "" || len(m.ClientURLs) != 1 {
				t.Fatalf("member %+v", m)
			}
		}
		gone := members[2]
		eventually(t, 30*time.Second, func() error {
			_, err := c.MemberRemove(within(t, 10*time.Second), ids[gone])
			if err != nil && !errors.Is(err, rpctypes.ErrUnhealthy) {
				t.Fatal(err)
			}
			return err
		})
		if code := gone.exitCode(10 * time.Second); code != node.ExitRemoved {
			t.Fatalf("the removed member ended with code %d", code)
		}
		// It may not come back, neither with its data nor without.
		gone.start()
		if code := gone.exitCode(20 * time.Second); code != node.ExitRemoved {
			t.Fatalf("the removed member, started again, ended with code %d:\n%s", code, tail(gone.out.String(), 5))
		}
		l.end()
		if n := l.failed.Load(); n > 0 {
			t.Errorf("%d writes failed while the membership changed", n)
		}
		l.verify(t, client(t, members[1]))
		checkHashes(t, members[:2])
	})
}

// A second voter that is still to be started leaves one member alone without a
// quorum: the change itself is answered, and what cannot be done next is
// refused, both within a client's patience.
func TestGrowBeforeTheSecondStarts(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		c := client(t, startCluster(t, engine, 1)...)
		if _, err := c.MemberAdd(within(t, 5*time.Second), []string{"http://127.0.0.1:1"}); err != nil {
			t.Fatalf("adding a second member: %v", err)
		}
		if _, err := c.MemberAdd(within(t, 5*time.Second), []string{"http://127.0.0.1:2"}); !errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) {
			t.Fatalf("adding a third member before the second started: %v", err)
		}
	})
}

func TestLearnerServesLittle(t *testing.T) {
	members := startCluster(t, node.EngineMemory, 1)
	c := client(t, members...)
	ctx := within(t, 60*time.Second)
	if _, err := c.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	m := joiner(t, "m1", node.EngineMemory, members)
	addLearner(t, c, m)
	m.start()
	lc := client(t, m)
	eventually(t, 20*time.Second, func() error {
		r, err := lc.Get(ctx, "k", clientv3.WithSerializable())
		if err == nil && len(r.Kvs) != 1 {
			return fmt.Errorf("the learner has no data yet")
		}
		return err
	})
	if s, err := lc.Status(ctx, m.client); err != nil || !s.IsLearner {
		t.Fatalf("status %+v, %v", s, err)
	}
	for what, err := range map[string]error{
		"put":               second(lc.Put(ctx, "k", "w")),
		"linearizable read": second(lc.Get(ctx, "k")),
		"grant":             second(lc.Grant(ctx, 10)),
	} {
		if err == nil || !strings.Contains(err.Error(), "rpc not supported for learner") {
			t.Errorf("%s on a learner: %v", what, err)
		}
	}
	// A second learner at a time is refused.
	if _, err := c.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:1"}); !errors.Is(err, rpctypes.ErrTooManyLearners) {
		t.Errorf("a second learner: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// A member whose data is gone must not take up its old identity with nothing,
// neither by the settings of its first start nor by those of a joiner.
func TestLostDataIsNoticed(t *testing.T) {
	for _, state := range []string{"new", "existing"} {
		t.Run(state, func(t *testing.T) {
			members := startCluster(t, node.EngineMemory, 3)
			// The leader: the others do not even agree who leads when it asks.
			m := leader(t, members)
			m.kill()
			m.dir += "-emptied"
			m.state = state
			m.start()
			if code := m.exitCode(20 * time.Second); code != node.ExitEmpty {
				t.Fatalf("it ended with code %d", code)
			}
			if !strings.Contains(m.out.String(), "has started before and its data is gone") {
				t.Errorf("the reason is not told:\n%s", tail(m.out.String(), 3))
			}
		})
	}
}

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/node"
	"metastore.io/metastore/server/replica"
)

// changeStored gives a stored key another value, behind the back of a member that
// does not run: no checksum finds that.
func changeStored(t *testing.T, m *member, key string) {
	t.Helper()
	var opener engine.Opener = memory.Opener{}
	if m.engine == node.EngineRocksDB {
		opener = rocksdb.Opener{Logger: slog.New(slog.DiscardHandler)}
	}
	_, e, err := replica.OpenEngines(disk.OS(), filepath.Join(m.dir, "engine"), opener)
	if err != nil {
		t.Fatal(err)
	}
	b := engine.NewBatch()
	err = e.Scan(engine.Revisions, nil, nil, func(rowKey, row []byte) (bool, error) {
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(row, &kv); err != nil {
			return false, err
		}
		if string(kv.Key) == key {
			kv.Value = append([]byte("not "), kv.Value...)
			changed, err := proto.Marshal(&kv)
			if err != nil {
				return false, err
			}
			b.Put(engine.Revisions, append([]byte(nil), rowKey...), changed)
		}
		return true, nil
	})
	if err == nil && b.Len() == 0 {
		err = fmt.Errorf("%s is not in the engine of %s: was it flushed?", key, m.name)
	}
	if err := errors.Join(err, e.Apply(b), e.Flush(), e.Close()); err != nil {
		t.Fatal(err)
	}
}

// A member whose data were changed while it was down is found by its peers: at
// its start, by the leader from time to time, or at a compaction. The alarm names
// it, and nobody writes any more.
func TestCorruptMemberIsNamed(t *testing.T) {
	flush := []string{"--snapshot-count=5", "--snapshot-catchup-entries=5"}
	checks := map[string][]string{
		"periodic":   {"--corrupt-check-time=300ms"},
		"compaction": {"--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=300ms"},
	}
	for name, flags := range checks {
		t.Run(name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, engine string) {
				members := startCluster(t, engine, 3, append(flush, flags...)...)
				odd := members[2]
				c := client(t, members[:2]...)
				ctx := within(t, time.Minute)
				for i := range 60 {
					key := fmt.Sprintf("key/%d", i%20)
					if i == 0 {
						key = "victim"
					}
					if _, err := c.Put(ctx, key, fmt.Sprint(i)); err != nil {
						t.Fatal(err)
					}
				}
				odd.waitServing()
				id := memberID(t, odd)
				odd.terminate()
				changeStored(t, odd, "victim")
				if name == "periodic" {
					refuseAtStart(t, odd)
				}
				odd.start()
				odd.waitServing()
				if name == "compaction" {
					if _, err := c.Compact(ctx, 40); err != nil {
						t.Fatal(err)
					}
				}
				checkNamed(t, c, id)
			})
		})
	}
}

func memberID(t *testing.T, m *member) uint64 {
	t.Helper()
	s, err := client(t, m).Status(within(t, 10*time.Second), m.client)
	if err != nil {
		t.Fatal(err)
	}
	return s.Header.MemberId
}

// refuseAtStart wants the member to end before it serves.
func refuseAtStart(t *testing.T, m *member) {
	t.Helper()
	m.startArgs(append(m.args(), "--feature-gates=InitialCorruptCheck=true"))
	if code := m.exitCode(30 * time.Second); code != node.ExitCorrupt {
		t.Errorf("the exit code is %d, want %d", code, node.ExitCorrupt)
	}
	if out := m.out.String(); !strings.Contains(out, "who are a majority; this member must not serve: replace it") ||
		strings.Count(out, "ready to serve client requests") != 1 {
		t.Errorf("it said:\n%s", tail(out, 10))
	}
}

// checkNamed wants the one alarm, and writes to be refused because of it.
func checkNamed(t *testing.T, c *clientv3.Client, id uint64) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		alarms, err := c.AlarmList(within(t, 5*time.Second))
		if err != nil {
			return err
		}
		if len(alarms.Alarms) != 1 {
			return fmt.Errorf("alarms: %v", alarms.Alarms)
		}
		if a := alarms.Alarms[0]; a.Alarm != etcdserverpb.AlarmType_CORRUPT || a.MemberID != id {
			t.Fatalf("the alarm is %v, want CORRUPT of member %d", a, id)
		}
		return nil
	})
	if _, err := c.Put(within(t, 10*time.Second), "x", "y"); !errors.Is(err, rpctypes.ErrCorrupt) {
		t.Errorf("a put gives %v, want %v", err, rpctypes.ErrCorrupt)
	}
	if _, err := c.Get(within(t, 10*time.Second), "victim"); err != nil {
		t.Errorf("a read gives %v", err)
	}
}

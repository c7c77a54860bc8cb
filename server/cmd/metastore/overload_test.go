package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/time/rate"

	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/node"
)

var (
	overloadConns   = flag.Int("overload.conns", 100, "idle connections")
	overloadWatches = flag.Int("overload.watches", 100, "watches of a client that reads nothing")
	overloadStalled = flag.Int("overload.stalled", 5, "clients that ask for everything and read nothing")
	overloadMBps    = flag.Int("overload.mbps", 5, "MB/s of large puts, as far as the disk can")
	overloadFor     = flag.Duration("overload.for", 2*time.Second, "how long the overload lasts")
	overloadMiB     = flag.Int64("overload.mib", 1024, "memory of the container")
	overloadCgroup  = flag.String("overload.cgroup", "", "folder of cgroups in which to make one with that limit, v1 or v2; empty: the limit is GOMEMLIMIT and the peak of RSS is compared")
)

const (
	// p99 of small requests of other clients under overload: at most so many
	// times that of calm, or the floor, which a busy machine needs.
	overloadFactor = 20
	overloadFloor  = 5 * time.Second

	cgroupOfServer = "METASTORE_TEST_CGROUP"
)

// joinCgroup moves a server of the tests into its cgroup before it starts.
func joinCgroup() {
	if dir := os.Getenv(cgroupOfServer); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			panic(err)
		}
	}
}

// TestOverload: memory stays within the container, others are served, errors are
// etcd's, nothing is lost and the leader leads on.
func TestOverload(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		t.Run("members=1", func(t *testing.T) { overload(t, engine, 1) })
		if engine == engines()[0] {
			t.Run("members=3", func(t *testing.T) { overload(t, engine, 3) })
		}
	})
}

func overload(t *testing.T, engine string, n int) {
	members := newCluster(t, engine, n, "--quota-backend-bytes=17179869184", "--snapshot-count=200")
	for _, m := range members {
		t.Setenv(cgroupOfServer, "")
		limitServer(t, m, engine)
		m.start()
	}
	for _, m := range members {
		m.waitServing()
		if *overloadCgroup != "" && !strings.Contains(m.out.String(), `"source":"cgroup"`) {
			t.Errorf("%s did not take the limit of its cgroup", m.name)
		}
	}
	lead := leader(t, members)
	ctx := within(t, 10*time.Minute)
	before, err := client(t, lead).Status(ctx, lead.client)
	if err != nil {
		t.Fatal(err)
	}
	calm := probe(ctx, t, members, *overloadFor)
	idle := peakBytes(t, lead, "VmRSS")
	for range *overloadConns {
		dialRaw(t, lead.client)
	}
	perConn := (peakBytes(t, lead, "VmRSS") - idle) / int64(max(*overloadConns, 1))

	f := startFlood(ctx, t, lead)
	watchNothing(t, lead)
	eventually(t, 30*time.Second, func() error {
		if f.acks.Load() < 4 {
			return errors.New("no large put was acknowledged")
		}
		return nil
	})
	for range *overloadStalled {
		dialRaw(t, lead.client).call(t, pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte("flood"), RangeEnd: []byte("flooe")}, true)
	}
	beyondLimits(ctx, t, lead)
	busy := probe(ctx, t, members, *overloadFor)
	f.end()

	after, err := client(t, lead).Status(ctx, lead.client)
	if err != nil {
		t.Fatal(err)
	}
	if after.Leader != before.Leader || after.RaftTerm != before.RaftTerm {
		t.Errorf("leader %x of term %d, before %x of %d", after.Leader, after.RaftTerm, before.Leader, before.RaftTerm)
	}
	f.verify(ctx, t, client(t, members...))
	t.Logf("calm p99 %s, busy p99 %s (%.1f times); %d large puts of %d MB acknowledged, %d refused; %d bytes of RSS a connection",
		calm, busy, float64(busy)/float64(calm), f.acks.Load(), f.bytes.Load()/1e6, f.refused.Load(), perConn)
	if busy > max(overloadFactor*calm, overloadFloor) {
		t.Errorf("p99 of others is %s, that of calm %s", busy, calm)
	}
	for _, m := range members {
		peak := peakBytes(t, m, "VmHWM")
		t.Logf("%s: peak RSS %d MiB of %d", m.name, peak>>20, *overloadMiB)
		if peak > *overloadMiB<<20 {
			t.Errorf("%s took %d MiB", m.name, peak>>20)
		}
	}
}

// limitServer gives the next server that starts the container's memory.
func limitServer(t *testing.T, m *member, engine string) {
	t.Helper()
	c := node.DefaultConfig()
	c.StorageEngine, c.RocksDB = engine, rocksdb.DefaultOptions()
	if *overloadCgroup == "" {
		t.Setenv("GOMEMLIMIT", strconv.FormatInt(goLimit(*overloadMiB<<20, nativeBytes(&c)), 10))
		return
	}
	dir := filepath.Join(*overloadCgroup, fmt.Sprintf("metastore-%d-%s", os.Getpid(), m.name))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		eventually(t, 10*time.Second, func() error { return os.Remove(dir) })
	})
	for _, file := range []string{"memory.max", "memory.limit_in_bytes"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			if err := os.WriteFile(filepath.Join(dir, file), fmt.Append(nil, *overloadMiB<<20), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv(cgroupOfServer, dir)
}

// peakBytes reads a size from the status of a member's process.
func peakBytes(t *testing.T, m *member, field string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == field+":" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	t.Fatalf("%s has no %s", m.name, field)
	return 0
}

// probe is the p99 of small puts and reads of clients with connections of their
// own, one to each member and one more.
func probe(ctx context.Context, t *testing.T, members []*member, d time.Duration) time.Duration {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for i := range len(members) + 1 {
		c := client(t, members[i%len(members)])
		wg.Go(func() {
			for j := 0; time.Now().Before(end); j++ {
				begin := time.Now()
				key := fmt.Sprintf("probe/%d/%d", i, j%100)
				_, err := c.Put(ctx, key, "small")
				if err == nil {
					_, err = c.Get(ctx, key)
				}
				if err != nil {
					t.Errorf("another client: %v", err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(begin)/2)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return p99Of(t, took)
}

// p99Of is what 99 of 100 requests took at most.
func p99Of(t *testing.T, took []time.Duration) time.Duration {
	t.Helper()
	if len(took) == 0 {
		t.Fatal("no request was answered")
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// watchNothing opens a stream of many watches and reads none of their events.
func watchNothing(t *testing.T, m *member) {
	t.Helper()
	c := dialRaw(t, m.client)
	create := func(i int) *pb.WatchRequest {
		return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte("flood"), RangeEnd: []byte("flooe"), PrevKv: i%2 == 0,
		}}}
	}
	stream := c.call(t, pb.Watch_Watch_FullMethodName, create(0), false)
	for i := 1; i < *overloadWatches; i++ {
		c.send(t, stream, create(i), false)
	}
}

// beyondLimits wants etcd's errors.
func beyondLimits(ctx context.Context, t *testing.T, m *member) {
	t.Helper()
	c := client(t, m)
	if _, err := c.Put(ctx, "large", strings.Repeat("x", 1536<<10+1)); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
		t.Errorf("a put of 1.5 MiB and more: %v", err)
	}
	ops := make([]clientv3.Op, 129)
	for i := range ops {
		ops[i] = clientv3.OpPut(fmt.Sprint("op", i), "")
	}
	if _, err := c.Txn(ctx).Then(ops...).Commit(); !errors.Is(err, rpctypes.ErrTooManyOps) {
		t.Errorf("129 operations: %v", err)
	}
}

// flood puts values of 100 kB to 1 MB and knows the last acknowledged of each key.
type flood struct {
	stop                 context.CancelFunc
	wg                   sync.WaitGroup
	acks, bytes, refused atomic.Int64
	acked                sync.Map // key → the least that its sequence number is
}

const floodWriters = 32

func startFlood(ctx context.Context, t *testing.T, m *member) *flood {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	f := &flood{stop: stop}
	limit := rate.NewLimiter(rate.Limit(*overloadMBps*1e6), 8<<20)
	for w := range floodWriters {
		c := client(t, m)
		f.wg.Go(func() { f.write(ctx, t, c, limit, fmt.Sprintf("flood/%02d", w)) })
	}
	return f
}

func (f *flood) write(ctx context.Context, t *testing.T, c *clientv3.Client, limit *rate.Limiter, key string) {
	for i := 1; ctx.Err() == nil; i++ {
		size := 100_000 + (i*7919%10)*100_000
		if limit.WaitN(ctx, size) != nil {
			return
		}
		value := append(fmt.Appendf(nil, "%d ", i), bytes.Repeat([]byte{byte(i)}, size)...)
		_, err := c.Put(ctx, key, string(value))
		switch {
		case err == nil:
			f.acked.Store(key, i)
			f.acks.Add(1)
			f.bytes.Add(int64(size))
		case errors.Is(err, rpctypes.ErrTooManyRequests):
			f.refused.Add(1)
		case ctx.Err() == nil && !errors.Is(err, rpctypes.ErrTimeout):
			t.Errorf("a large put: %v", err)
			return
		}
	}
}

func (f *flood) end() { f.stop(); f.wg.Wait() }

// verify wants the last acknowledged put of each key, or a later one.
func (f *flood) verify(ctx context.Context, t *testing.T, c *clientv3.Client) {
	t.Helper()
	f.acked.Range(func(key, least any) bool {
		r, err := c.Get(ctx, key.(string))
		if err != nil || len(r.Kvs) != 1 {
			t.Errorf("%s is lost: %v", key, err)
			return true
		}
		number, _, _ := strings.Cut(string(r.Kvs[0].Value), " ")
		if i, err := strconv.Atoi(number); err != nil || i < least.(int) {
			t.Errorf("%s holds put %s, acknowledged was %d", key, number, least)
		}
		return true
	})
}

//go:build !race

package node

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

var allocationsWrite = flag.Bool("allocations.write", false, "write the allocations of a request as they are now to testdata")

const allocationsFile = "testdata/allocations.txt"

// TestAllocationsOfRequests counts what a request allocates in a whole member,
// its gRPC client included, and compares that with what is committed. Counts
// depend neither on the machine nor on what else runs there, as times would.
func TestAllocationsOfRequests(t *testing.T) {
	var got bytes.Buffer
	for _, engine := range []string{EngineMemory, EngineRocksDB} {
		measureAllocations(t, engine, func(request string, count int) { fmt.Fprintf(&got, "%s %s %d\n", engine, request, count) })
	}
	if *allocationsWrite {
		if err := os.WriteFile(allocationsFile, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(allocationsFile)
	if err != nil {
		t.Fatal(err)
	}
	budget := map[string]int{}
	for line := range strings.Lines(string(committed)) {
		at := strings.LastIndexByte(line, ' ')
		var n int
		if _, err := fmt.Sscan(line[at+1:], &n); err != nil {
			t.Fatalf("%s: %q: %v", allocationsFile, line, err)
		}
		budget[line[:at]] = n
	}
	for line := range strings.Lines(got.String()) {
		at := strings.LastIndexByte(line, ' ')
		var n int
		fmt.Sscan(line[at+1:], &n)
		was, ok := budget[line[:at]]
		// What runs beside requests takes a few, and so do pools that a
		// collection emptied.
		slack := 2 + was/50
		switch {
		case !ok:
			t.Errorf("%s is not in %s", line[:at], allocationsFile)
		case n > was+slack:
			t.Errorf("%s: %d allocations, the budget is %d", line[:at], n, was)
		case n < was-slack:
			t.Errorf("%s: %d allocations instead of %d: lower the budget with -allocations.write", line[:at], n, was)
		}
	}
}

// measureAllocations calls each with the allocations of a kind of request.
func measureAllocations(t *testing.T, engine string, each func(request string, count int)) {
	c := DefaultConfig()
	c.Logger = slog.New(slog.DiscardHandler)
	c.Name, c.StorageEngine, c.DataDir = "m", engine, filepath.Join(t.TempDir(), "data")
	client, peer := freeURL(t), freeURL(t)
	c.ListenClientURLs, c.AdvertiseClientURLs = []url.URL{client}, []url.URL{client}
	c.ListenPeerURLs, c.AdvertisePeerURLs = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = "m=" + peer.String()
	n := startReady(t, c)[0]
	conn, err := grpc.NewClient("passthrough:///"+client.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requestsThatAllocate(t, conn) {
		each(r.name, allocationsOf(t, r.do))
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := n.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// allocationsOf is the fewest allocations of one call among some runs of many.
func allocationsOf(t *testing.T, do func(i int) error) int {
	t.Helper()
	const calls, runs = 200, 3
	fewest := ^uint64(0)
	for run := range runs {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range calls {
			if err := do(run*calls + i); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		fewest = min(fewest, (after.Mallocs-before.Mallocs)/calls)
	}
	return int(fewest)
}

type allocating struct {
	name string
	do   func(i int) error
}

func requestsThatAllocate(t *testing.T, conn *grpc.ClientConn) []allocating {
	ctx := t.Context()
	kv := pb.NewKVClient(conn)
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%028d", i%1000) }
	value := bytes.Repeat([]byte("v"), 256)
	put := func(i int) error {
		_, err := kv.Put(ctx, &pb.PutRequest{Key: key(i), Value: value})
		return err
	}
	ranged := func(r *pb.RangeRequest, want int) func(int) error {
		return func(int) error {
			resp, err := kv.Range(ctx, r)
			if err == nil && len(resp.Kvs) != want {
				err = fmt.Errorf("%d keys, want %d", len(resp.Kvs), want)
			}
			return err
		}
	}
	return []allocating{
		{"put", put},
		{"get", ranged(&pb.RangeRequest{Key: key(7)}, 1)},
		{"get serializable", ranged(&pb.RangeRequest{Key: key(7), Serializable: true}, 1)},
		{"range of 100", ranged(&pb.RangeRequest{Key: []byte("key-"), RangeEnd: []byte("key."), Limit: 100}, 100)},
		{"compare and swap", func(i int) error {
			_, err := kv.Txn(ctx, &pb.TxnRequest{
				Compare: []*pb.Compare{{Key: key(i), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: 0}}},
				Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key(i), Value: value}}}},
			})
			return err
		}},
		{"keep-alive", keepAlive(t, conn)},
		{"put that is watched", watched(t, conn, put)},
		{"delete", func(i int) error {
			_, err := kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key(i)})
			return err
		}},
	}
}

func keepAlive(t *testing.T, conn *grpc.ClientConn) func(int) error {
	t.Helper()
	lease := pb.NewLeaseClient(conn)
	granted, err := lease.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 600})
	if err != nil {
		t.Fatal(err)
	}
	s, err := lease.LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return func(int) error {
		err := s.Send(&pb.LeaseKeepAliveRequest{ID: granted.ID})
		if err == nil {
			_, err = s.Recv()
		}
		return err
	}
}

func watched(t *testing.T, conn *grpc.ClientConn, put func(int) error) func(int) error {
	t.Helper()
	var s pb.Watch_WatchClient // opened at the first call, not beside others' requests
	return func(i int) (err error) {
		if s == nil {
			if s, err = pb.NewWatchClient(conn).Watch(t.Context()); err != nil {
				return err
			}
			create := &pb.WatchCreateRequest{Key: []byte("key-"), RangeEnd: []byte("key.")}
			if err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
				return err
			}
			if _, err := s.Recv(); err != nil {
				return err
			}
		}
		if err := put(i); err != nil {
			return err
		}
		r, err := s.Recv()
		if err == nil && len(r.Events) != 1 {
			err = fmt.Errorf("%d events of a put", len(r.Events))
		}
		return err
	}
}

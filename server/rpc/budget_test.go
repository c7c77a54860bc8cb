package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"
)

// Connections that give nothing back leave room for those that come later.
func TestBudgetLeavesRoom(t *testing.T) {
	b := newBudget(1 << 20)
	b.wait = time.Nanosecond
	for i := range 20 {
		conn := fmt.Sprint(i)
		for b.draw(t.Context(), conn, 1<<10) == nil {
		}
		if b.held[conn] < 16<<10 {
			t.Errorf("connection %d got %d bytes", i, b.held[conn])
		}
	}
	if b.used > b.limitBytes {
		t.Errorf("%d bytes are used of %d", b.used, b.limitBytes)
	}
}

func TestBudgetWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1000)
		first := drawing{b: b, ctx: t.Context(), conn: "a"}
		first.settle(900)
		got := make(chan error, 1)
		go func() { got <- b.draw(t.Context(), "b", 300) }()
		synctest.Wait()
		if err := b.draw(t.Context(), "c", 800); !errors.Is(err, rpctypes.ErrGRPCRequestTooManyRequests) {
			t.Errorf("with too many waiting: %v", err)
		}
		first.release()
		first.release() // once counts
		if err := <-got; err != nil {
			t.Errorf("after there was room: %v", err)
		}
		began := time.Now()
		if err := b.draw(t.Context(), "d", 800); !errors.Is(err, rpctypes.ErrGRPCRequestTooManyRequests) || time.Since(began) != budgetWait {
			t.Errorf("without room: %v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.draw(ctx, "d", 800); status.Code(err) != codes.Canceled {
			t.Errorf("cancelled: %v", err)
		}
		if b.used != 300 || b.wanted != 0 || len(b.held) != 1 {
			t.Errorf("used %d, wanted %d, held %v", b.used, b.wanted, b.held)
		}
	})
}

// stall asks for a range over a connection of its own and reads nothing.
func (s *served) stall(t *testing.T, ctx context.Context, method string, r *pb.RangeRequest) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, grpc.StaticMethod())
	if err == nil {
		err = stream.SendMsg(r)
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (b *budget) now() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (s *served) fill(t *testing.T, prefix string, n, sizeBytes int) {
	t.Helper()
	for i := range n {
		must[*clientv3.PutResponse](t)(s.client.Put(t.Context(), fmt.Sprintf("%s%03d", prefix, i), strings.Repeat("v", sizeBytes)))
	}
}

// Clients that never read their responses hold a bounded amount, others are
// served meanwhile, and all comes back when the clients go.
func TestStalledResponses(t *testing.T) {
	const limit = 16 << 20
	s := serve(t, Options{ResponsesBytes: limit}, watch.Options{})
	s.s.responses.wait = 10 * time.Millisecond
	s.fill(t, "k", 40, 100<<10)
	all := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
	ctx, cancel := context.WithCancel(t.Context())
	var conns []*grpc.ClientConn
	for i := range 20 {
		method := pb.KV_Range_FullMethodName
		if i%4 == 3 {
			method = pb.KV_RangeStream_FullMethodName
		}
		conns = append(conns, s.stall(t, ctx, method, all))
	}
	eventually(t, func() bool { return s.s.responses.now() >= limit/4 })
	for i := range 40 {
		r := must[*clientv3.GetResponse](t)(s.client.Get(t.Context(), fmt.Sprintf("k%03d", i)))
		if len(r.Kvs) != 1 || len(r.Kvs[0].Value) != 100<<10 {
			t.Fatalf("while others stall: %v", r.Header)
		}
		if used := s.s.responses.now(); used > limit {
			t.Fatalf("%d bytes are under way", used)
		}
	}
	for _, c := range conns[:10] { // broken, the rest are cancelled
		_ = c.Close()
	}
	cancel()
	eventually(t, func() bool { runtime.GC(); return s.s.responses.now() == 0 })
	r := must[*clientv3.GetResponse](t)(s.client.Get(t.Context(), "k", clientv3.WithPrefix()))
	if len(r.Kvs) != 40 {
		t.Errorf("%d pairs", len(r.Kvs))
	}
	eventually(t, func() bool { return s.s.responses.now() == 0 })
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			t.Fatal("not within 20 s")
		}
	}
}

// A response that never fits is refused in gRPC's words; in chunks it fits.
func TestResponseTooLarge(t *testing.T) {
	s := serve(t, Options{ResponsesBytes: 1}, watch.Options{}) // the least there can be, 12 MiB
	s.fill(t, "k", 80, 100<<10)
	ctx := t.Context()
	kv := pb.NewKVClient(s.conn)
	_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "trying to send message larger than max (") {
		t.Errorf("one range: %v", err)
	}
	half := func(from, to string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(from), RangeEnd: []byte(to)}}}
	}
	if _, err := kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{half("k", "k040"), half("k040", "l")}}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a transaction: %v", err)
	}
	stream := must[pb.KV_RangeStreamClient](t)(kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}))
	n := 0
	for {
		r, err := stream.Recv()
		if err != nil {
			break
		}
		n += len(r.RangeResponse.Kvs)
	}
	if n != 80 {
		t.Errorf("%d pairs came in chunks", n)
	}
	// What was written is never refused.
	if r, err := s.client.Delete(ctx, "k", clientv3.WithPrefix(), clientv3.WithPrevKV()); err != nil || len(r.PrevKvs) != 80 {
		t.Errorf("delete: %v", err)
	}
	eventually(t, func() bool { return s.s.responses.now() == 0 })
}

// slowMember proposes nothing until it is told to.
type slowMember struct {
	*member
	entered chan int
	gate    chan struct{}
}

func (m *slowMember) Propose(ctx context.Context, c state.Command) (state.Result, uint64, error) {
	m.entered <- len(c.Body)
	<-m.gate
	return m.member.Propose(ctx, c)
}

// Requests beyond the budget wait and are then refused, small ones pass, and
// those that were taken are kept.
func TestTooManyRequestBytes(t *testing.T) {
	m := &slowMember{member: newMember(t, watch.Options{}), entered: make(chan int, 100), gate: make(chan struct{})}
	s, err := New(m, Options{RequestsBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.requests.wait = 20 * time.Millisecond
	kv := &kvServer{Server: s}
	put := func(key string, size int) error {
		_, err := kv.Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: make([]byte, size)})
		return err
	}
	const puts = 20
	results := make(chan error, puts)
	for i := range puts {
		go func() { results <- put(fmt.Sprintf("k%d", i), 1<<20) }()
	}
	refused := 0
	for range puts - 3 { // one connection may hold 3/8 of the budget
		if err := <-results; !errors.Is(err, rpctypes.ErrGRPCRequestTooManyRequests) {
			t.Fatalf("beyond the budget: %v", err)
		}
		refused++
	}
	small := make(chan error, 1)
	go func() { small <- put("small", 1000) }()
	for size := 0; size < 1000 || size > 2000; size = <-m.entered {
	}
	close(m.gate)
	if err := <-small; err != nil {
		t.Errorf("small: %v", err)
	}
	for range puts - refused {
		if err := <-results; err != nil {
			t.Errorf("within the budget: %v", err)
		}
	}
	if r := must[*pb.RangeResponse](t)(m.m.Range(&pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})); len(r.Kvs) != puts-refused {
		t.Errorf("%d pairs are there", len(r.Kvs))
	}
	if s.requests.now() != 0 {
		t.Errorf("%d bytes are left", s.requests.now())
	}
}

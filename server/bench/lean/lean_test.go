package lean

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const waitLimit = 30 * time.Second

// echo answers with what it was asked.
type echo struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	entered chan struct{} // Compact tells that it waits
}

func (echo) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{PrevKv: &mvccpb.KeyValue{Key: r.Key, Value: r.Value}}, nil
}

func (echo) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return nil, status.Error(codes.OutOfRange, string(r.Key))
}

func (e echo) Compact(ctx context.Context, _ *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	e.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// Watch answers each request with one as large, and ends with the client.
func (echo) Watch(s pb.Watch_WatchServer) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		key := r.GetCreateRequest().GetKey()
		if err := s.Send(&pb.WatchResponse{CancelReason: string(key)}); err != nil {
			return err
		}
	}
}

func serve(t *testing.T, opts ...grpc.ServerOption) (*grpc.Server, echo, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, e := grpc.NewServer(opts...), echo{entered: make(chan struct{}, 100)}
	pb.RegisterKVServer(s, e)
	pb.RegisterWatchServer(s, e)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return s, e, l.Addr().String()
}

func connect(t *testing.T, addr string, opt Options) (*Conn, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	t.Cleanup(cancel)
	c, err := Dial(ctx, addr, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, ctx
}

// smallWindows make both sides wait for each other's credit.
var smallWindows = []grpc.ServerOption{
	grpc.StaticStreamWindowSize(65_535), grpc.StaticConnWindowSize(65_535),
	grpc.MaxRecvMsgSize(64 << 20), grpc.MaxConcurrentStreams(5),
}

func TestCallsInParallelThroughSmallWindows(t *testing.T) {
	_, _, addr := serve(t, smallWindows...)
	c, ctx := connect(t, addr, Options{StreamWindow: 70_000, ConnWindow: 70_000})
	var callers sync.WaitGroup
	for i := range 40 {
		callers.Go(func() {
			value := bytes.Repeat([]byte{byte(i)}, i*i*300) // up to 456 kB
			var reply pb.PutResponse
			for range 3 {
				err := c.Invoke(ctx, pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte("k"), Value: value}, &reply)
				if err != nil || !bytes.Equal(reply.PrevKv.Value, value) {
					t.Errorf("caller %d: %v, %d bytes for %d", i, err, len(reply.GetPrevKv().GetValue()), len(value))
				}
			}
		})
	}
	callers.Wait()
	if len(c.live)+len(c.parked)+len(c.queued) != 0 {
		t.Errorf("left over: %d live, %d parked, %d queued", len(c.live), len(c.parked), len(c.queued))
	}
}

// A call started from Done is the loop that a load generator runs.
func TestCallsStartedByReplies(t *testing.T) {
	_, _, addr := serve(t, grpc.MaxConcurrentStreams(7))
	c, _ := connect(t, addr, Options{})
	const loops, rounds = 20, 200
	done := make(chan error, loops)
	for l := range loops {
		call, n := &Call{Method: pb.KV_Put_FullMethodName, Reply: &pb.PutResponse{}}, 0
		request := &pb.PutRequest{}
		call.Request = request
		next := func() {
			request.Key = fmt.Appendf(nil, "%d/%d", l, n)
			if err := c.Start(call); err != nil {
				done <- err
			}
		}
		call.Done = func(err error) {
			if got := call.Reply.(*pb.PutResponse).GetPrevKv().GetKey(); err != nil || !bytes.Equal(got, request.Key) {
				done <- fmt.Errorf("sent %s, got %s, %w", request.Key, got, err)
			} else if n++; n == rounds {
				done <- nil
			} else {
				next()
			}
		}
		next()
	}
	for range loops {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestErrorStatuses(t *testing.T) {
	_, _, addr := serve(t)
	c, ctx := connect(t, addr, Options{})
	text := "key % of 100%: größer"
	err := c.Invoke(ctx, pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte(text)}, &pb.RangeResponse{})
	if status.Code(err) != codes.OutOfRange || status.Convert(err).Message() != text {
		t.Errorf("got %v", err)
	}
	if err := c.Invoke(ctx, "/no.Such/Method", &pb.RangeRequest{}, &pb.RangeResponse{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown method: got %v", err)
	}
	if err := c.Invoke(ctx, pb.KV_Put_FullMethodName, &pb.PutRequest{Value: make([]byte, 5<<20)}, &pb.PutResponse{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request above the server's limit: got %v", err)
	}
	if err := c.Invoke(ctx, pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte("a")}, &pb.PutResponse{}); err != nil {
		t.Errorf("after errors: got %v", err)
	}
}

func TestInvokeEndsWithItsContext(t *testing.T) {
	_, e, addr := serve(t)
	c, ctx := connect(t, addr, Options{})
	short, cancel := context.WithCancel(ctx)
	go func() { <-e.entered; cancel() }()
	if err := c.Invoke(short, pb.KV_Compact_FullMethodName, &pb.CompactionRequest{}, &pb.CompactionResponse{}); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	if err := c.Invoke(ctx, pb.KV_Put_FullMethodName, &pb.PutRequest{}, &pb.PutResponse{}); err != nil {
		t.Errorf("the next call: got %v", err)
	}
}

// Messages larger than the window, and a stream that nobody reads beside one
// that is read.
func TestStreamsThroughSmallWindows(t *testing.T) {
	_, _, addr := serve(t, smallWindows...)
	c, ctx := connect(t, addr, Options{StreamWindow: 70_000, ConnWindow: 70_000})
	request := func(n int) *pb.WatchRequest {
		create := &pb.WatchCreateRequest{Key: bytes.Repeat([]byte("x"), n)}
		return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
	}
	idle := c.NewStream(pb.Watch_Watch_FullMethodName)
	defer idle.Close()
	for range 10 {
		if err := idle.Send(request(20_000)); err != nil {
			t.Fatal(err)
		}
	}
	s := c.NewStream(pb.Watch_Watch_FullMethodName)
	defer s.Close()
	for i := range 20 {
		n := i * 10_000
		var reply pb.WatchResponse
		if err := errors.Join(s.Send(request(n)), s.Receive(ctx, &reply)); err != nil || len(reply.CancelReason) != n {
			t.Fatalf("message of %d bytes: %v, got %d bytes", n, err, len(reply.CancelReason))
		}
	}
	s.CloseSend()
	if err := s.Receive(ctx, &pb.WatchResponse{}); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: got %v", err)
	}
	for i := range 10 {
		var reply pb.WatchResponse
		if err := idle.Receive(ctx, &reply); err != nil || len(reply.CancelReason) != 20_000 {
			t.Fatalf("message %d of the stream that waited: %v, %d bytes", i, err, len(reply.CancelReason))
		}
	}
	idle.Close()
	if err := idle.Receive(ctx, &pb.WatchResponse{}); status.Code(err) != codes.Canceled {
		t.Errorf("after Close: got %v", err)
	}
}

func TestGoAwayLetsCallsEnd(t *testing.T) {
	s, e, addr := serve(t)
	c, ctx := connect(t, addr, Options{})
	short, cancel := context.WithCancel(ctx)
	pending := make(chan error, 1)
	go func() {
		pending <- c.Invoke(short, pb.KV_Compact_FullMethodName, &pb.CompactionRequest{}, &pb.CompactionResponse{})
	}()
	<-e.entered
	stopped := make(chan struct{})
	go func() { s.GracefulStop(); close(stopped) }()
	var err error
	for err == nil { // until the server's word is here
		err = c.Invoke(ctx, pb.KV_Put_FullMethodName, &pb.PutRequest{}, &pb.PutResponse{})
	}
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "goes away") {
		t.Errorf("a new call: got %v", err)
	}
	select {
	case err := <-pending:
		t.Errorf("the call under way ended with %v", err)
	default:
	}
	cancel()
	if err := <-pending; status.Code(err) != codes.Canceled {
		t.Errorf("the call under way: got %v", err)
	}
	<-stopped
}

func TestAStoppedServerEndsCalls(t *testing.T) {
	s, e, addr := serve(t)
	c, ctx := connect(t, addr, Options{})
	go func() { <-e.entered; s.Stop() }()
	if err := c.Invoke(ctx, pb.KV_Compact_FullMethodName, &pb.CompactionRequest{}, &pb.CompactionResponse{}); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if err := c.Start(&Call{Method: pb.KV_Put_FullMethodName, Request: &pb.PutRequest{}}); status.Code(err) != codes.Unavailable {
		t.Errorf("the next call: got %v", err)
	}
}

package difftest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	requestLimit = 1536 << 10
	messageLimit = requestLimit + 512<<10
)

// putOf is a put of so many bytes on the wire.
func putOf(size int) *pb.PutRequest {
	r := &pb.PutRequest{Key: []byte("large")}
	r.Value = make([]byte, size-proto.Size(r)-5)
	r.Value = make([]byte, len(r.Value)+size-proto.Size(r))
	return r
}

// sized is a call of which only the size is told, with options of gRPC's.
type sized struct {
	call
	options []grpc.CallOption
}

func (c sized) String() string {
	return fmt.Sprintf("%s, %d bytes, %v", c.method, proto.Size(c.request), c.options)
}

func (c sized) play(ctx context.Context, s *side) answer {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a := methods[c.method].call(ctx, s.conn, c.method, c.request, c.options...)
	for _, r := range a.messages {
		clean(c.request, r)
	}
	return a
}

func ops(n int) []*pb.RequestOp {
	all := make([]*pb.RequestOp, n)
	for i := range all {
		all[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: fmt.Append(nil, "op", i)}}}
	}
	return all
}

func nested(outer, inner int) *pb.TxnRequest {
	t := &pb.TxnRequest{Success: ops(outer - 1)}
	in := &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: ops(inner)}}}
	t.Success = append(t.Success, in)
	return t
}

func compares(n int) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for range n {
		t.Compare = append(t.Compare, &pb.Compare{Key: []byte("a")})
	}
	return t
}

// Messages at each limit and just above it, as they are and compressed.
func TestSameAnswersAtTheLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd server")
	}
	sides := startSides(t, limits{})
	var steps []step
	add := func(method string, r proto.Message, o ...grpc.CallOption) {
		steps = append(steps, sized{call{"", method, r}, o})
	}
	// What etcd adds to a request before it looks at its size takes about 18 bytes.
	for _, size := range []int{
		requestLimit - 30, requestLimit, requestLimit + 1, messageLimit - 1, messageLimit, messageLimit + 1, 2 * messageLimit,
	} {
		add(pb.KV_Put_FullMethodName, putOf(size))
		add(pb.KV_Put_FullMethodName, putOf(size), grpc.UseCompressor(gzip.Name))
		// A read is no proposal.
		add(pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: make([]byte, size-5)})
		add(pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: putOf(size - 10)}}}})
		add(pb.Auth_RoleDelete_FullMethodName, &pb.AuthRoleDeleteRequest{Role: string(make([]byte, size-5))})
		add(pb.KV_DeleteRange_FullMethodName, &pb.DeleteRangeRequest{Key: make([]byte, size-5)})
	}
	for _, n := range []int{127, 128, 129} {
		add(pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: ops(n)})
		add(pb.KV_Txn_FullMethodName, &pb.TxnRequest{Failure: ops(n)})
		add(pb.KV_Txn_FullMethodName, compares(n))
		add(pb.KV_Txn_FullMethodName, nested(28, n-28))
	}
	// An answer of more than the 4 MiB that a client takes unless told otherwise.
	for i := range 4 {
		add(pb.KV_Put_FullMethodName, &pb.PutRequest{Key: fmt.Append(nil, "part", i), Value: make([]byte, requestLimit-100)})
	}
	whole := &pb.RangeRequest{Key: []byte("part"), RangeEnd: []byte("paru")}
	add(pb.KV_Range_FullMethodName, whole)
	add(pb.KV_Range_FullMethodName, whole, grpc.MaxCallRecvMsgSize(4<<20))
	add(pb.KV_Range_FullMethodName, whole, grpc.UseCompressor(gzip.Name))
	playAll(t, sides, steps...)
}

// hold opens a watch stream that stays, and waits until it is there.
func hold(ctx context.Context, s *side) error {
	w, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err != nil {
		return err
	}
	create := &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}
	if err := w.Send(&pb.WatchRequest{RequestUnion: create}); err != nil {
		return err
	}
	r, err := w.Recv()
	if err == nil && !r.Created {
		err = errors.New("not created")
	}
	return err
}

// A connection takes a thousand streams, or as many as the server is told to;
// all others wait.
func TestSameStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd servers")
	}
	for _, c := range []struct {
		limit   uint32
		streams int
		more    bool // one more call gets through
	}{{0, 1000, true}, {100, 99, true}, {100, 100, false}} {
		for _, s := range startSides(t, limits{maxStreams: c.limit}) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*callTimeout)
			defer cancel()
			errs := make(chan error, c.streams)
			var opening sync.WaitGroup
			for range c.streams {
				opening.Go(func() { errs <- hold(ctx, s) })
			}
			opening.Wait()
			close(errs)
			for err := range errs {
				if err != nil {
					t.Fatalf("%s, at most %d streams: %v", s.name, c.limit, err)
				}
			}
			short := callTimeout
			if !c.more {
				short = 200 * time.Millisecond
			}
			one, done := context.WithTimeout(ctx, short)
			defer done()
			_, err := pb.NewKVClient(s.conn).Range(one, &pb.RangeRequest{Key: []byte("k")})
			if (err == nil) != c.more {
				t.Errorf("%s: with %d of %d streams a call says %v", s.name, c.streams, c.limit, status.Convert(err))
			}
		}
	}
}

package rpc

import (
	"context"
	"runtime"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Responses are under way from their first byte read until their last byte is
// with the kernel: gRPC takes a message whole and hands it to the connection as
// the client reads, long after the call's handler has returned. So a response
// goes to gRPC together with what it holds of the budget, and the codec makes
// it a buffer that gives that back when gRPC frees it.

type drawingKey struct{}

// drawingOf is what the call's response holds; nil where it draws on nothing.
func drawingOf(ctx context.Context) *drawing {
	d, _ := ctx.Value(drawingKey{}).(*drawing)
	return d
}

// unaryCall is the context of a unary call whose response draws on the budget:
// while it is read, where the handler says how it grows, and with its real size
// at last.
type unaryCall struct {
	context.Context
	drawing drawing
}

// Value implements context.Context.
func (c *unaryCall) Value(key any) any {
	if key == (drawingKey{}) {
		return &c.drawing
	}
	return c.Context.Value(key)
}

// response is what gRPC gets. A write has taken effect by now, so that its
// response is never refused.
func (c *unaryCall) response(resp any, err error) (any, error) {
	m, ok := resp.(proto.Message)
	if err != nil || !ok || isSmall(m) || !m.ProtoReflect().IsValid() {
		c.drawing.release()
		return resp, err
	}
	return c.drawing.response(m), nil
}

// response is a message as gRPC gets it: with what it holds, if it is large.
func (d *drawing) response(m proto.Message) any {
	size := proto.Size(m)
	if size <= freeBytes {
		d.release()
		return m
	}
	d.settle(size)
	// What is held may outlive the call, and all that its context holds.
	held := &drawing{b: d.b, conn: d.conn, held: d.held, drawn: true}
	r := &budgeted{m: m, sizeBytes: size, held: held}
	// gRPC forgets buffers without freeing them when a connection breaks.
	runtime.AddCleanup(r, (*drawing).release, held)
	return r
}

// isSmall knows most small responses without taking their size, which costs as
// much as encoding them.
func isSmall(m proto.Message) bool {
	switch r := m.(type) {
	case *pb.PutResponse:
		return r != nil && r.PrevKv == nil
	case *pb.RangeResponse:
		if r == nil || len(r.ProtoReflect().GetUnknown()) > 0 { // see takeEncoded
			return false
		}
		return len(r.Kvs) == 0 || len(r.Kvs) == 1 && len(r.Kvs[0].Key)+len(r.Kvs[0].Value) < freeBytes/2
	}
	return false
}

// budgeted is a large response; it is the pool of its one buffer.
type budgeted struct {
	m         proto.Message
	sizeBytes int
	held      *drawing
}

// Get implements mem.BufferPool.
func (r *budgeted) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Put implements mem.BufferPool: gRPC has no more use for the buffer.
func (r *budgeted) Put(*[]byte) { r.held.release() }

// codec is gRPC's own, which also knows budgeted responses and shared events.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(*codedEvents); ok {
		return e.marshal(), nil
	}
	r, ok := v.(*budgeted)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	if pairs := takeEncoded(r.m); pairs != nil {
		b, err := c.CodecV2.Marshal(r.m)
		r.m = nil
		return append(b, mem.NewBuffer(&pairs, r)), err
	}
	// The size was just taken, as in gRPC's own codec.
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(make([]byte, 0, r.sizeBytes), r.m)
	if err != nil {
		r.held.release()
		return nil, err
	}
	r.m = nil // the bytes are enough from here on
	return mem.BufferSlice{mem.NewBuffer(&b, r)}, nil
}

// takeEncoded takes the pairs out of a response that has them encoded, to be sent
// as they are behind the rest of it; nil when it has none.
func takeEncoded(m proto.Message) []byte {
	r, ok := m.(*pb.RangeResponse)
	if !ok {
		return nil
	}
	pairs := r.ProtoReflect().GetUnknown()
	if len(pairs) > 0 {
		r.ProtoReflect().SetUnknown(nil)
	}
	return pairs
}

// tooLarge is the error of a response that no waiting makes fit, in gRPC's words.
func tooLarge(size, limit int64) error {
	return status.Errorf(codes.ResourceExhausted, "grpc: trying to send message larger than max (%d vs. %d)", size, limit)
}

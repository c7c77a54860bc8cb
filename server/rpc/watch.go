package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"metastore.io/metastore/server/watch"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// watchServer is etcdserverpb.Watch.
type watchServer struct {
	*Server
	pb.UnsafeWatchServer
}

type watchStream = grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]

// Watch reads requests in a goroutine of its own, which ends when the call
// does, and sends on the call's.
func (s *watchServer) Watch(stream watchStream) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	events := s.b.Hub().NewStream()
	go func() {
		// A client that has no more requests still gets its events.
		if err := s.receiveWatches(ctx, stream, events); err != nil {
			cancel(err)
		}
	}()
	err := events.Run(ctx, func(r watch.Response) error { return s.sendWatch(stream, r) })
	switch {
	case ctx.Err() != nil:
		return watchEnd(context.Cause(ctx))
	case errors.Is(err, watch.ErrClosed):
		return rpctypes.ErrGRPCStopped
	}
	if _, ok := status.FromError(err); ok {
		return err // of the transport
	}
	s.o.Logger.Error("watch stream failed", "error", err)
	return status.Error(codes.Internal, err.Error())
}

func watchEnd(cause error) error {
	if errors.Is(cause, context.Canceled) {
		return rpctypes.ErrGRPCWatchCanceled
	}
	if _, ok := status.FromError(cause); ok {
		return cause
	}
	return wireError(cause)
}

// receiveWatches carries the client's requests over until there are no more.
func (s *watchServer) receiveWatches(ctx context.Context, stream watchStream, events *watch.Stream) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.calls.streamed(ctx, "receive", "watch", err)
			return err
		}
		switch r := req.RequestUnion.(type) {
		case *pb.WatchRequest_CreateRequest:
			err = s.createWatch(ctx, events, r.CreateRequest)
		case *pb.WatchRequest_CancelRequest:
			err = events.Cancel(ctx, r.CancelRequest.GetWatchId())
		case *pb.WatchRequest_ProgressRequest:
			err = events.RequestProgress(ctx)
		}
		if err != nil {
			return nil // the stream has ended, and says why itself
		}
	}
}

// createWatch checks the permission of the whole range once: what is revoked
// later ends no watch, as in etcd.
func (s *watchServer) createWatch(ctx context.Context, events *watch.Stream, r *pb.WatchCreateRequest) error {
	if r.GetStartRevision() < 0 {
		return events.Refuse(ctx, rpctypes.ErrCompacted)
	}
	key := r.GetKey()
	if len(key) == 0 {
		key = []byte{0}
	}
	if _, err := s.allowRange(ctx, key, r.GetRangeEnd()); err != nil {
		return events.Refuse(ctx, err)
	}
	req := watch.Request{
		ID: r.GetWatchId(), Key: r.GetKey(), End: r.GetRangeEnd(), StartRevision: r.GetStartRevision(),
		PrevKV: r.GetPrevKv(), Progress: r.GetProgressNotify(), Fragment: r.GetFragment(),
	}
	for _, f := range r.GetFilters() {
		switch f {
		case pb.WatchCreateRequest_NOPUT:
			req.NoPut = true
		case pb.WatchCreateRequest_NODELETE:
			req.NoDelete = true
		}
	}
	return events.Create(ctx, req)
}

func (s *watchServer) sendWatch(stream watchStream, r watch.Response) error {
	begin := time.Now()
	err := s.sendResponse(stream, r)
	s.calls.streamed(stream.Context(), "send", "watch", err)
	s.calls.watch.sent(r, time.Since(begin))
	return err
}

func (s *watchServer) sendResponse(stream watchStream, r watch.Response) error {
	header := s.headerAt(r.Revision)
	if len(r.Parts) > 0 && !r.Fragment {
		return stream.SendMsg(&codedEvents{header: header, watchID: r.WatchID, parts: r.Parts})
	}
	resp := &pb.WatchResponse{
		Header: header, WatchId: r.WatchID, Created: r.Created, Canceled: r.Canceled,
		CompactRevision: r.CompactRevision, Events: r.Events(),
	}
	if r.Err != nil {
		resp.CancelReason = r.Err.Error()
	}
	if r.CompactRevision != 0 {
		resp.Header.Revision = 0 // and no reason: so does etcd end a watcher of what is compacted
	}
	if r.Fragment {
		return sendFragments(resp, s.o.MaxRequestBytes+requestOverheadBytes, stream.Send)
	}
	return stream.Send(resp)
}

// codedEvents is a response that the codec sends as parts: what comes before the
// events, encoded by hand since there is one for each watcher, and the events as
// they were encoded for all.
type codedEvents struct {
	header  *pb.ResponseHeader
	watchID int64
	parts   []*watch.Events
}

func (c *codedEvents) marshal() mem.BufferSlice {
	out := make(mem.BufferSlice, 0, 1+len(c.parts))
	out = append(out, mem.SliceBuffer(c.head()))
	for _, p := range c.parts {
		out = append(out, mem.SliceBuffer(p.Coded(encodeEvents)))
	}
	return out
}

// head is the response without events.
func (c *codedEvents) head() []byte {
	h := c.header
	fields := [...]uint64{h.ClusterId, h.MemberId, uint64(h.Revision), h.RaftTerm} // 1 to 4
	size := 0
	for _, v := range fields {
		size += 1 + protowire.SizeVarint(v)
	}
	b := make([]byte, 0, 2+size+1+protowire.SizeVarint(uint64(c.watchID)))
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	for i, v := range fields {
		b = protowire.AppendTag(b, protowire.Number(i+1), protowire.VarintType)
		b = protowire.AppendVarint(b, v)
	}
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(c.watchID))
}

// encodeEvents is the events as fields of a response. Encoded messages that
// follow each other are one message with the fields of all.
func encodeEvents(events []*mvccpb.Event) []byte {
	all := &pb.WatchResponse{Events: events}
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 0, proto.Size(all)), all)
	if err != nil {
		panic(err) // keys and values are bytes: there is nothing that cannot be encoded
	}
	return b
}

// sendFragments sends a response in parts of less than limit bytes, or of one
// event; all but the last say that there is more.
func sendFragments(r *pb.WatchResponse, limit int, send func(*pb.WatchResponse) error) error {
	events := r.Events
	if len(events) < 2 || proto.Size(r) < limit {
		return send(r)
	}
	empty := proto.Size(&pb.WatchResponse{
		Header: r.Header, WatchId: r.WatchId, Created: r.Created, Canceled: r.Canceled,
		CompactRevision: r.CompactRevision, CancelReason: r.CancelReason, Fragment: true,
	})
	for len(events) > 0 {
		n := fitting(events, limit-empty)
		part := &pb.WatchResponse{
			Header: r.Header, WatchId: r.WatchId, Created: r.Created, Canceled: r.Canceled,
			CompactRevision: r.CompactRevision, CancelReason: r.CancelReason,
			Events: events[:n], Fragment: n < len(events),
		}
		if err := send(part); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// fitting is how many of the events take less than limit bytes in a response;
// at least one.
func fitting(events []*mvccpb.Event, limit int) int {
	size := 0
	for i, ev := range events {
		size += 1 + protowire.SizeBytes(proto.Size(ev)) // field 11: a tag of one byte
		if i > 0 && size >= limit {
			return i
		}
	}
	return len(events)
}

package difftest

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// frame is the bytes of a message as they go over the wire.
type frame []byte

// frames is the codec that sends a frame as it is.
type frames struct{}

func (frames) Name() string { return "proto" }

func (frames) Marshal(v any) ([]byte, error) {
	if f, ok := v.(frame); ok {
		return f, nil
	}
	return proto.Marshal(v.(proto.Message))
}

func (frames) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }

// oddCall sends bytes to a method.
type oddCall struct {
	as     string
	method string
	body   []byte
	md     []string // further metadata, in pairs
}

func (c oddCall) String() string {
	text := "no message"
	if r := c.request(); r != nil {
		text = prototext.MarshalOptions{}.Format(r)
	}
	return fmt.Sprintf("%s as %q with %q: %s\n(%s)", c.method, c.as, c.md, hex.EncodeToString(c.body), text)
}

// request is what the bytes say; nil where they are no message.
func (c oddCall) request() proto.Message {
	m, ok := methods[c.method]
	if !ok {
		return nil
	}
	r := m.input.New().Interface()
	if proto.Unmarshal(c.body, r) != nil {
		return nil
	}
	return r
}

func (c oddCall) play(ctx context.Context, s *side) answer {
	ctx, cancel := context.WithTimeout(s.withToken(ctx, c.as), callTimeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, c.md...)
	m, ok := methods[c.method]
	if !ok { // any will do
		m = methods[pb.KV_Put_FullMethodName]
	}
	if c.method == pb.Watch_Watch_FullMethodName {
		return c.watch(ctx, s)
	}
	a := m.call(ctx, s.conn, c.method, frame(c.body), grpc.ForceCodec(frames{}))
	request := c.request()
	for _, r := range a.messages {
		clean(request, r)
		cleanOdd(r)
	}
	if c.method == pb.Maintenance_Snapshot_FullMethodName && len(a.messages) > 1 {
		a.messages = a.messages[:1] // as many as the file is large
	}
	return a
}

// cleanOdd takes out the leases that servers gave IDs to: those of a Resign end
// by themselves.
func cleanOdd(answer proto.Message) {
	if r, ok := answer.(*pb.LeaseLeasesResponse); ok {
		r.Leases = slices.DeleteFunc(r.Leases, func(l *pb.LeaseStatus) bool { return !slices.Contains(oddInts, l.ID) })
	}
}

// watch sends bytes on a stream of its own and gives what was said about
// watchers, without events and progress, which come at any time. Then it asks for
// what is always refused in the same way: once that is, the bytes have been
// answered.
func (c oddCall) watch(ctx context.Context, s *side) (a answer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, c.method, grpc.ForceCodec(frames{}))
	if err != nil {
		return answer{err: err}
	}
	last := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{StartRevision: -1}}}
	for _, m := range []any{frame(c.body), last} {
		if stream.SendMsg(m) != nil {
			break // the answer tells why
		}
	}
	refusals := 1
	if r, ok := c.request().(*pb.WatchRequest); ok && r.GetCreateRequest().GetStartRevision() < 0 {
		refusals++
	}
	for refusals > 0 {
		r := &pb.WatchResponse{}
		if err := stream.RecvMsg(r); err != nil {
			return answer{a.messages, err}
		}
		// A watcher of what is compacted is cancelled when it gets its turn.
		if !r.Created && (!r.Canceled || r.CompactRevision != 0) {
			continue
		}
		if r.CancelReason == rpctypes.ErrCompacted.Error() {
			refusals--
		}
		cleanHeader(r.Header)
		a.messages = append(a.messages, r)
	}
	return a
}

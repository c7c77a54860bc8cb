package difftest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// callTimeout is long: a call that takes it is stuck.
const callTimeout = 20 * time.Second

// step is one thing to do on every side.
type step interface {
	play(ctx context.Context, s *side) answer
	String() string
}

// answer is everything that came back.
type answer struct {
	messages []proto.Message
	err      error
}

// String says it all, for the report of a difference.
func (a answer) String() string {
	var out []string
	for _, m := range a.messages {
		out = append(out, prototext.MarshalOptions{}.Format(m))
	}
	if a.err != nil {
		out = append(out, fmt.Sprintf("error %v", a.err))
	}
	return strings.Join(out, "\n     ")
}

// difference says what two answers to the same request differ in, or nothing.
func difference(want, got answer) string {
	w, g := status.Convert(want.err), status.Convert(got.err)
	switch {
	case w.Code() != g.Code() || w.Message() != g.Message() || len(w.Details()) != len(g.Details()):
		return "error"
	case len(want.messages) != len(got.messages):
		return "number of messages"
	}
	for i := range want.messages {
		if !proto.Equal(want.messages[i], got.messages[i]) {
			return fmt.Sprintf("message %d", i)
		}
	}
	return ""
}

// method is what the protocol says about one call.
type method struct {
	input, output    protoreflect.MessageType
	toServer, toUser bool // streams
}

// methods has every call of etcd's services, by full name.
var methods = readMethods(pb.File_rpc_proto, v3lockpb.File_v3lock_proto, v3electionpb.File_v3election_proto)

func readMethods(files ...protoreflect.FileDescriptor) map[string]method {
	all := map[string]method{}
	for _, f := range files {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				name := fmt.Sprintf("/%s/%s", service.FullName(), m.Name())
				all[name] = method{messageType(m.Input()), messageType(m.Output()), m.IsStreamingClient(), m.IsStreamingServer()}
			}
		}
	}
	return all
}

func messageType(d protoreflect.MessageDescriptor) protoreflect.MessageType {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err) // it is linked in, or this does not compile
	}
	return t
}

// call is a step that makes one call as one user.
type call struct {
	as      string
	method  string
	request proto.Message
}

func (c call) String() string {
	return fmt.Sprintf("%s as %q: %s", c.method, c.as, prototext.MarshalOptions{}.Format(c.request))
}

func (c call) play(ctx context.Context, s *side) answer {
	ctx, cancel := context.WithTimeout(s.withToken(ctx, c.as), callTimeout)
	defer cancel()
	m := methods[c.method]
	a := m.call(ctx, s.conn, c.method, c.request)
	for _, r := range a.messages {
		if t, ok := r.(*pb.AuthenticateResponse); ok && a.err == nil {
			s.tokens[c.request.(*pb.AuthenticateRequest).Name] = t.Token
		}
		clean(c.request, r)
	}
	return a
}

func (s *side) withToken(ctx context.Context, user string) context.Context {
	if token := s.tokens[user]; user != "" && token != "" {
		return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
	}
	return ctx
}

// call sends one request and reads all answers.
func (m method) call(ctx context.Context, conn *grpc.ClientConn, name string, request any, options ...grpc.CallOption) answer {
	if !m.toServer && !m.toUser {
		resp := m.output.New().Interface()
		if err := conn.Invoke(ctx, name, request, resp, options...); err != nil {
			return answer{err: err}
		}
		return answer{messages: []proto.Message{resp}}
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: m.toServer, ServerStreams: m.toUser}, name, options...)
	if err != nil {
		return answer{err: err}
	}
	// The answer tells why a request could not be sent.
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return answer{err: err}
	}
	if err := stream.CloseSend(); err != nil {
		return answer{err: err}
	}
	var a answer
	for {
		resp := m.output.New().Interface()
		err := stream.RecvMsg(resp)
		if errors.Is(err, io.EOF) {
			return a
		}
		if err != nil {
			a.err = err
			return a
		}
		a.messages = append(a.messages, resp)
	}
}

// awaitExpiry waits until a lease is no more.
type awaitExpiry struct{ id int64 }

func (e awaitExpiry) String() string { return fmt.Sprintf("lease %d ends", e.id) }

func (e awaitExpiry) play(ctx context.Context, s *side) answer {
	ctx, cancel := context.WithTimeout(s.withToken(ctx, "root"), callTimeout)
	defer cancel()
	for {
		r, err := pb.NewLeaseClient(s.conn).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: e.id})
		if err != nil {
			return answer{err: err}
		}
		if r.TTL < 0 && r.GrantedTTL == 0 { // and not just overdue
			cleanHeader(r.Header)
			return answer{messages: []proto.Message{r}}
		}
	}
}

package bench

import (
	"context"
	"crypto/tls"
	"math"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/bench/lean"
)

// client is one connection to a server. All methods may be called at once.
type client interface {
	Invoke(ctx context.Context, method string, request, reply proto.Message) error
	open(ctx context.Context, method string) (stream, error)
	// loop makes calls of the slot until its next returns false, and then calls
	// ended; it does not wait for that.
	loop(s *slot, ended func())
	Close() error
}

// stream has one user who sends and one who receives. It ends with its context
// or with Close.
type stream interface {
	Send(m proto.Message) error
	// Receive returns io.EOF when the server has ended the stream well.
	Receive(m proto.Message) error
	CloseSend() error
	Close()
}

func dial(ctx context.Context, kind, endpoint string, tls *tls.Config) (client, error) {
	if kind == ClientGRPC {
		return dialGRPC(ctx, endpoint, tls)
	}
	c, err := lean.Dial(ctx, endpoint, lean.Options{TLS: tls})
	if err != nil {
		return nil, err
	}
	return leanClient{c}, nil
}

type leanClient struct{ *lean.Conn }

// loop sends the next request where the last one's reply was read.
func (c leanClient) loop(s *slot, ended func()) {
	call := &lean.Call{}
	next := func() {
		if !s.next() {
			ended()
			return
		}
		call.Method, call.Request, call.Reply = s.method, s.request, s.reply
		if err := c.Start(call); err != nil {
			s.lost(err)
			ended()
		}
	}
	call.Done = func(err error) {
		s.done(err)
		next()
	}
	next()
}

func (c leanClient) open(ctx context.Context, method string) (stream, error) {
	return &leanStream{c.NewStream(method), ctx}, nil
}

// leanStream holds the context as grpc's streams do.
type leanStream struct {
	*lean.Stream
	ctx context.Context
}

func (s *leanStream) CloseSend() error {
	s.Stream.CloseSend()
	return nil
}

func (s *leanStream) Receive(m proto.Message) error { return s.Stream.Receive(s.ctx, m) }

// grpcClient is clientv3 with all its interceptors; it gives messages to its
// connection as its own methods do.
type grpcClient struct {
	*clientv3.Client
	conn *grpc.ClientConn
}

func dialGRPC(ctx context.Context, endpoint string, tls *tls.Config) (client, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, TLS: tls, Context: context.WithoutCancel(ctx), Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, err
	}
	return grpcClient{c, c.ActiveConnection()}, nil
}

var anySize = []grpc.CallOption{grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32), grpc.WaitForReady(true)}

func (c grpcClient) Invoke(ctx context.Context, method string, request, reply proto.Message) error {
	return c.conn.Invoke(ctx, method, request, reply, anySize...)
}

func (c grpcClient) loop(s *slot, ended func()) {
	go func() {
		defer ended()
		for s.next() {
			s.done(c.Invoke(s.ctx, s.method, s.request, s.reply))
		}
	}()
}

func (c grpcClient) open(ctx context.Context, method string) (stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, anySize...)
	if err != nil {
		cancel()
		return nil, err
	}
	return &grpcStream{s, cancel}, nil
}

type grpcStream struct {
	s      grpc.ClientStream
	cancel context.CancelFunc
}

func (s *grpcStream) Send(m proto.Message) error    { return s.s.SendMsg(m) }
func (s *grpcStream) Receive(m proto.Message) error { return s.s.RecvMsg(m) }
func (s *grpcStream) CloseSend() error              { return s.s.CloseSend() }
func (s *grpcStream) Close()                        { s.cancel() }

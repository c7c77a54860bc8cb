package rpc

import (
	"context"
	"errors"
	"sync"
	"time"
	"unicode/utf8"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// unary is around each unary call: one function rather than a chain, whose parts
// would cost each call allocations and a deeper stack.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	begin, method := time.Now(), s.methods.methods[info.FullMethod]
	method.started.Inc()
	method.received.Inc()
	c := &unaryCall{Context: ctx, drawing: drawing{b: s.responses, ctx: ctx}}
	resp, err := s.serve(c, req, next)
	took := time.Since(begin)
	method.sent.Inc()
	method.ended(took, err)
	s.logSlow(ctx, info.FullMethod, req, resp, begin, took)
	return c.response(resp, err)
}

// serve refuses what a learner does not serve, what requires a leader while
// there is none, and what the caller may not do.
func (s *Server) serve(ctx context.Context, req any, next grpc.UnaryHandler) (any, error) {
	if s.b.Status().Learner && !servedByLearner(req) {
		return nil, rpctypes.ErrGRPCNotSupportedForLearner
	}
	if _, err := s.admit(ctx, "unary"); err != nil {
		return nil, err
	}
	if err := s.allowCall(ctx, req); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func servedByLearner(req any) bool {
	switch r := req.(type) {
	case *pb.StatusRequest, *healthpb.HealthCheckRequest:
		return true
	case *pb.RangeRequest:
		return r.Serializable
	}
	return false
}

// stream does what serve does for streams, and ends those that require a leader some
// time after it was lost.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if s.b.Status().Learner && info.FullMethod != pb.Maintenance_Snapshot_FullMethodName {
		return rpctypes.ErrGRPCNotSupportedForLearner
	}
	needsLeader, err := s.admit(ss.Context(), "stream")
	if err != nil {
		return err
	}
	if !needsLeader {
		return next(srv, ss)
	}
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)
	release := s.leader.watch(cancel)
	defer release()
	return next(srv, streamWithContext{ss, ctx})
}

// admit checks the metadata of a call, unary or stream, and tells whether it
// requires a leader.
func (s *Server) admit(ctx context.Context, kind string) (needsLeader bool, err error) {
	version := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataClientAPIVersionKey)
	if len(version) > 0 && !utf8.ValidString(version[0]) {
		return false, rpctypes.ErrGRPCInvalidClientAPIVersion
	}
	s.calls.called(kind, version)
	if v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey); len(v) == 0 || v[0] != rpctypes.MetadataHasLeader {
		return false, nil
	}
	if s.b.Status().Leader == 0 {
		return true, rpctypes.ErrGRPCNoLeader
	}
	return true, nil
}

type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s streamWithContext) Context() context.Context { return s.ctx }

// streamEnd is what a call answers whose context ended: the reason it was
// cancelled for here, or the client's.
func streamEnd(ctx context.Context) error {
	cause := context.Cause(ctx)
	if _, ok := status.FromError(cause); ok && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return wireError(ctx.Err())
}

// leaderMonitor cancels streams when there was no leader for as long as it has
// patience. Its goroutine runs while there are streams.
type leaderMonitor struct {
	b        Backend
	patience time.Duration

	mu      sync.Mutex
	streams map[uint64]context.CancelCauseFunc
	next    uint64
	stop    context.CancelFunc // ends the goroutine; nil when there is none
}

// watch adds a stream; release removes it.
func (l *leaderMonitor) watch(cancel context.CancelCauseFunc) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams == nil {
		l.streams = make(map[uint64]context.CancelCauseFunc)
	}
	id := l.next
	l.next++
	l.streams[id] = cancel
	if l.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		l.stop = stop
		go l.run(ctx)
	}
	return func() { l.release(id) }
}

func (l *leaderMonitor) release(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, id)
	if len(l.streams) == 0 && l.stop != nil {
		l.stop()
		l.stop = nil
	}
}

func (l *leaderMonitor) run(ctx context.Context) {
	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	for {
		changed := l.b.LeaderChanged()
		var lost <-chan time.Time
		if l.b.Status().Leader == 0 {
			timer.Reset(l.patience)
			lost = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-lost:
			l.cancelAll()
		}
	}
}

func (l *leaderMonitor) cancelAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, cancel := range l.streams {
		cancel(rpctypes.ErrGRPCNoLeader)
	}
}

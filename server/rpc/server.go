package rpc

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress, as with etcd
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// requestOverheadBytes is how much larger than MaxRequestBytes a message may be
// on the wire, as in etcd.
const requestOverheadBytes = 512 << 10

// readBufferBytes is what each connection holds for as long as it lives. It has
// room for the frames that say what comes; the bytes of values are read past it,
// into buffers that live as long as their message. gRPC shares those for writing.
const readBufferBytes = 4 << 10

// streamWorkers are goroutines that serve one call after the other: their stacks
// have grown already, which else costs each call a tenth of its time. Beyond
// them calls get goroutines of their own.
const streamWorkers = 1024

// Options are the limits of the API. Zero values are replaced by etcd's
// defaults, given with each field.
type Options struct {
	MaxRequestBytes      int    // 1.5 MiB
	MaxTxnOps            int    // 128
	QuotaBytes           int64  // 2 GiB; negative: no quota
	MaxConcurrentStreams uint32 // no limit
	// RequestsBytes bounds the commands that wait for all clients together, and
	// ResponsesBytes the responses that are read or not sent yet. Beyond it
	// calls wait, and are then told that there are too many requests; what is
	// smaller than freeBytes does not count. 256 MiB, 4 GiB.
	RequestsBytes, ResponsesBytes int64
	// KeepAliveMinTime is how often a client may ping at most; one that pings
	// more is disconnected. 5 s.
	KeepAliveMinTime time.Duration
	// KeepAliveInterval is after how long of silence a client is pinged, and
	// KeepAliveTimeout how long it may take to answer. 2 h, 20 s.
	KeepAliveInterval, KeepAliveTimeout time.Duration
	// WarnRequestAfter is how long a unary request takes that is logged as slow.
	// 300 ms.
	WarnRequestAfter time.Duration
	// StopOnDefrag has the gRPC health service say NOT_SERVING while a Defragment
	// runs.
	StopOnDefrag bool
	// Histograms adds how long calls take to the metrics.
	Histograms bool
	// MinLeaseSeconds is the shortest time to live of a lease; one that asks for
	// less gets it. 1.
	MinLeaseSeconds int64
	// LeaderLossTimeout is how long a stream that requires a leader outlives
	// it. Three election timeouts; 3 s.
	LeaderLossTimeout time.Duration
	// SnapshotDir is where snapshots are made before they are sent; it has to
	// have room for the whole store. The system's folder for temporary files.
	SnapshotDir string
	// Settings are those that this member runs with, as text for whoever asks for
	// its status.
	Settings string
	// Auth is how callers prove who they are.
	Auth AuthOptions
	// Registry gets the metrics and is what /metrics shows. When it is nil, one
	// is made that has those of Go and of the process, too.
	Registry *prometheus.Registry
	Logger   *slog.Logger
}

func (o Options) withDefaults() Options {
	setDefault(&o.MaxRequestBytes, 1536<<10)
	setDefault(&o.MaxTxnOps, 128)
	setDefault(&o.QuotaBytes, 2<<30)
	setDefault(&o.MaxConcurrentStreams, math.MaxUint32)
	setDefault(&o.RequestsBytes, 256<<20)
	setDefault(&o.ResponsesBytes, 4<<30)
	// The largest request, and as large a value, always finds room.
	o.RequestsBytes = max(o.RequestsBytes, 4*int64(o.MaxRequestBytes))
	o.ResponsesBytes = max(o.ResponsesBytes, 8*int64(o.MaxRequestBytes))
	setDefault(&o.KeepAliveMinTime, 5*time.Second)
	setDefault(&o.KeepAliveInterval, 2*time.Hour)
	setDefault(&o.KeepAliveTimeout, 20*time.Second)
	setDefault(&o.WarnRequestAfter, 300*time.Millisecond)
	setDefault(&o.MinLeaseSeconds, 1)
	setDefault(&o.LeaderLossTimeout, 3*time.Second)
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
		o.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Server is the API of one backend.
type Server struct {
	b       Backend
	o       Options
	metrics *metrics
	calls   *callMetrics
	methods *methodMetrics
	leader  leaderMonitor
	// now is the clock of signed tokens.
	now func() time.Time
	// defragmenting holds a token while a Defragment runs: one at a time.
	defragmenting chan struct{}
	health        *health.Server
	checks        checkMetrics
	// snapshots holds a token for each Snapshot under way.
	snapshots chan struct{}
	// requests and responses bound what is under way.
	requests, responses *budget
}

// New makes the API of a backend. Its metrics are registered here, so that a
// registry can hold those of one server only.
func New(b Backend, o Options) (*Server, error) {
	s := &Server{b: b, o: o.withDefaults(), now: time.Now, health: health.NewServer(), checks: newCheckMetrics(), defragmenting: make(chan struct{}, 1), snapshots: make(chan struct{}, maxSnapshots)}
	s.requests, s.responses = newBudget(min(s.o.RequestsBytes, max(handedOnBytes, 4*int64(s.o.MaxRequestBytes)))), newBudget(s.o.ResponsesBytes)
	s.requests.maxWanted = s.o.RequestsBytes
	s.leader = leaderMonitor{b: b, patience: s.o.LeaderLossTimeout}
	s.metrics, s.calls, s.methods = &metrics{s: s}, newCallMetrics(), newMethodMetrics(s.o.Histograms)
	if err := s.o.Registry.Register(s.metrics); err != nil {
		return nil, fmt.Errorf("register metrics of the store: %w", err)
	}
	if err := s.methods.register(s.o.Registry); err != nil {
		return nil, fmt.Errorf("register metrics of gRPC: %w", err)
	}
	if err := s.calls.register(s.o.Registry); err != nil {
		return nil, fmt.Errorf("register metrics of calls: %w", err)
	}
	if err := s.checks.register(s.o.Registry); err != nil {
		return nil, fmt.Errorf("register metrics of the health checks: %w", err)
	}
	s.setServing(true, "")
	return s, nil
}

// ServerOptions are what the grpc.Server that this server is registered with
// has to be created with: limits, keep-alive rules and interceptors.
func (s *Server) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(s.o.MaxRequestBytes + requestOverheadBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.ForceServerCodecV2(&s.calls.bytes),
		grpc.MaxConcurrentStreams(s.o.MaxConcurrentStreams),
		grpc.ReadBufferSize(readBufferBytes),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: s.o.KeepAliveMinTime}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: s.o.KeepAliveInterval, Timeout: s.o.KeepAliveTimeout}),
		grpc.UnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.countStream, s.stream),
	}
}

// Register registers all services.
func (s *Server) Register(g *grpc.Server) {
	pb.RegisterKVServer(g, &kvServer{Server: s})
	pb.RegisterWatchServer(g, &watchServer{Server: s})
	pb.RegisterLeaseServer(g, &leaseServer{Server: s})
	pb.RegisterClusterServer(g, &clusterServer{Server: s})
	pb.RegisterMaintenanceServer(g, &maintenanceServer{Server: s})
	pb.RegisterAuthServer(g, &authServer{Server: s})
	v3lockpb.RegisterLockServer(g, &lockServer{Server: s})
	v3electionpb.RegisterElectionServer(g, &electionServer{Server: s})
	healthpb.RegisterHealthServer(g, s.health)
	s.methods.add(g)
}

// header is a response header without revision.
func (s *Server) header() *pb.ResponseHeader {
	st := s.b.Status()
	return &pb.ResponseHeader{ClusterId: st.ClusterID, MemberId: st.ID, RaftTerm: st.Term}
}

// headerAt is a response header with a revision.
func (s *Server) headerAt(rev int64) *pb.ResponseHeader {
	h := s.header()
	h.Revision = rev
	return h
}

// complete fills the fields of a header that the state machine does not know.
func (s *Server) complete(h *pb.ResponseHeader) {
	st := s.b.Status()
	h.ClusterId, h.MemberId, h.RaftTerm = st.ClusterID, st.ID, st.Term
}

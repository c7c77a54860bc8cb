package rpc

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// methodMetrics are gRPC's own, in the names and labels of
// go-grpc-middleware, which etcd shows. That library looks up each counter by
// its labels for each message, which took as long as a lease's renewal; here a
// method knows its counters.
type methodMetrics struct {
	started, handled, received, sent *prometheus.CounterVec
	seconds                          *prometheus.HistogramVec // nil unless asked for
	// methods by full name; it is complete before the first call.
	methods map[string]*methodCounters
}

// methodCounters are those of one method.
type methodCounters struct {
	labels                  []string
	all                     *methodMetrics
	started, received, sent prometheus.Counter
	succeeded               prometheus.Counter
	seconds                 prometheus.Observer // may be nil
}

func newMethodMetrics(histograms bool) *methodMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"grpc_type", "grpc_service", "grpc_method"}, labels...))
	}
	m := &methodMetrics{
		started:  counter("grpc_server_started_total", "Total number of RPCs started on the server."),
		handled:  counter("grpc_server_handled_total", "Total number of RPCs completed on the server, regardless of success or failure.", "grpc_code"),
		received: counter("grpc_server_msg_received_total", "Total number of RPC stream messages received on the server."),
		sent:     counter("grpc_server_msg_sent_total", "Total number of gRPC stream messages sent by the server."),
		methods:  map[string]*methodCounters{},
	}
	if histograms {
		m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "grpc_server_handling_seconds", Buckets: prometheus.DefBuckets,
			Help: "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
		}, []string{"grpc_type", "grpc_service", "grpc_method"})
	}
	return m
}

func (m *methodMetrics) register(r *prometheus.Registry) error {
	err := errors.Join(r.Register(m.started), r.Register(m.handled), r.Register(m.received), r.Register(m.sent))
	if m.seconds != nil {
		err = errors.Join(err, r.Register(m.seconds))
	}
	return err
}

// add makes the counters of all methods of a server, so that they are shown
// before the first call. A second server has the same methods.
func (m *methodMetrics) add(g *grpc.Server) {
	for service, info := range g.GetServiceInfo() {
		for _, method := range info.Methods {
			name := "/" + service + "/" + method.Name
			if m.methods[name] == nil {
				m.methods[name] = m.counters(methodType(method), service, method.Name)
			}
		}
	}
}

func methodType(m grpc.MethodInfo) string {
	switch {
	case m.IsClientStream && m.IsServerStream:
		return "bidi_stream"
	case m.IsClientStream:
		return "client_stream"
	case m.IsServerStream:
		return "server_stream"
	}
	return "unary"
}

func (m *methodMetrics) counters(labels ...string) *methodCounters {
	c := &methodCounters{
		labels: labels, all: m,
		started: m.started.WithLabelValues(labels...), received: m.received.WithLabelValues(labels...), sent: m.sent.WithLabelValues(labels...),
	}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		handled := m.handled.WithLabelValues(append(labels, code.String())...)
		if code == codes.OK {
			c.succeeded = handled
		}
	}
	if m.seconds != nil {
		c.seconds = m.seconds.WithLabelValues(labels...)
	}
	return c
}

// ended counts a call that took so long.
func (c *methodCounters) ended(took time.Duration, err error) {
	if err == nil {
		c.succeeded.Inc()
	} else {
		s, ok := status.FromError(err)
		if !ok {
			s = status.FromContextError(err)
		}
		c.all.handled.WithLabelValues(append(c.labels[:3:3], s.Code().String())...).Inc()
	}
	if c.seconds != nil {
		c.seconds.Observe(took.Seconds())
	}
}

// countStream counts a stream's call and its messages.
func (s *Server) countStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	c := s.methods.methods[info.FullMethod]
	begin := time.Now()
	c.started.Inc()
	err := next(srv, &countedStream{ss, c})
	c.ended(time.Since(begin), err)
	return err
}

type countedStream struct {
	grpc.ServerStream
	c *methodCounters
}

func (s *countedStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	s.c.sent.Inc()
	return err
}

func (s *countedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	s.c.received.Inc()
	return err
}

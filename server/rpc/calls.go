package rpc

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is counted
	"google.golang.org/grpc/mem"

	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"
)

// callMetrics measure calls while they are served. Names and buckets are etcd's.
type callMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	// types are the observers of duration by type, [0] of what failed and [1] of
	// what succeeded: looking up labels would cost more than observing.
	types         sync.Map
	ranges        *prometheus.HistogramVec
	rangeOK       prometheus.Observer
	rangeFailed   prometheus.Observer
	hash, hashRev prometheus.Histogram
	snapshot      prometheus.Histogram
	broken        *prometheus.CounterVec
	watch         watchMetrics

	versions clientVersions
	// kinds are the counters of requests by kind and version.
	kinds sync.Map
	bytes countedCodec
}

// watchMetrics are how long it takes to hand responses to a watch's stream.
type watchMetrics struct {
	events, perEvent, control, progress prometheus.Histogram
}

func histogram(name, help string, start float64, buckets int) prometheus.Histogram {
	return prometheus.NewHistogram(histogramOptions(name, help, start, buckets))
}

// histogramOptions have buckets that double from start on.
func histogramOptions(name, help string, start float64, buckets int) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(start, 2, buckets)}
}

func newCallMetrics() *callMetrics {
	c := &callMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "etcd_server_client_requests_total", Help: "The total number of client requests per client version.",
		}, []string{"type", "client_api_version"}),
		duration: prometheus.NewHistogramVec(histogramOptions("etcd_server_request_duration_seconds",
			"Response latency distribution in seconds for each type.", 0.001, 14), []string{"type", "success"}),
		ranges: prometheus.NewHistogramVec(histogramOptions("etcd_server_range_duration_seconds",
			"The latency distributions of ranges, without the wait for a linearizable read.", 0.0001, 20), []string{"success"}),
		hash:     histogram("etcd_mvcc_hash_duration_seconds", "The latency distribution of storage hash operation.", 0.01, 15),
		hashRev:  histogram("etcd_mvcc_hash_rev_duration_seconds", "The latency distribution of storage hash by revision operation.", 0.01, 15),
		snapshot: histogram("etcd_disk_backend_snapshot_duration_seconds", "The latency distribution of snapshots that clients get.", 0.01, 17),
		broken: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "etcd_network_server_stream_failures_total", Help: "The total number of stream failures from the local server.",
		}, []string{"Type", "API"}),
		watch: watchMetrics{
			events:   sendLoop("watch_stream_duration_seconds", "the events of a response"),
			perEvent: sendLoop("watch_stream_duration_per_event_seconds", "the events of a response, per event"),
			control:  sendLoop("control_stream_duration_seconds", "the answer to a request"),
			progress: sendLoop("progress_duration_seconds", "a progress notification"),
		},
	}
	c.rangeOK, c.rangeFailed = c.ranges.WithLabelValues("true"), c.ranges.WithLabelValues("false")
	c.bytes.CodecV2 = newCodec()
	return c
}

func sendLoop(name, what string) prometheus.Histogram {
	return histogram("etcd_debugging_server_watch_send_loop_"+name, "How long it took to send "+what+".", 0.001, 14)
}

func (c *callMetrics) register(r *prometheus.Registry) error {
	return errors.Join(r.Register(c.requests), r.Register(c.duration), r.Register(c.ranges), r.Register(c.hash),
		r.Register(c.hashRev), r.Register(c.snapshot), r.Register(c.broken), r.Register(c.watch.events),
		r.Register(c.watch.perEvent), r.Register(c.watch.control), r.Register(c.watch.progress))
}

// called counts a call that comes in, and the version that its client said that
// it has; kind is unary or stream.
func (c *callMetrics) called(kind string, version []string) {
	key := [2]string{kind, c.versions.label(version)}
	n, known := c.kinds.Load(key)
	if !known {
		n, _ = c.kinds.LoadOrStore(key, c.requests.WithLabelValues(key[0], key[1]))
	}
	n.(prometheus.Counter).Inc()
}

// answered tells how long a request took since it began.
func (c *callMetrics) answered(kind string, begin time.Time, err error) {
	o, known := c.types.Load(kind)
	if !known {
		o, _ = c.types.LoadOrStore(kind, &[2]prometheus.Observer{c.duration.WithLabelValues(kind, "false"), c.duration.WithLabelValues(kind, "true")})
	}
	succeeded := 0
	if err == nil {
		succeeded = 1
	}
	o.(*[2]prometheus.Observer)[succeeded].Observe(time.Since(begin).Seconds())
}

func (c *callMetrics) ranged(begin time.Time, err error) {
	o := c.rangeOK
	if err != nil {
		o = c.rangeFailed
	}
	o.Observe(time.Since(begin).Seconds())
}

// streamed counts a stream that failed in the direction: send or receive. One
// that a client ends is no failure.
func (c *callMetrics) streamed(ctx context.Context, direction, api string, err error) {
	if err != nil && ctx.Err() == nil {
		c.broken.WithLabelValues(direction, api).Inc()
	}
}

func (w *watchMetrics) sent(r watch.Response, took time.Duration) {
	s := took.Seconds()
	switch {
	case len(r.Parts) > 0:
		w.events.Observe(s)
		w.perEvent.Observe(s / float64(r.Count()))
	case r.Created || r.Canceled:
		w.control.Observe(s)
	default:
		w.progress.Observe(s)
	}
}

// maxClientVersions bounds the versions that are told apart: they are what
// clients say.
const maxClientVersions = 32

// clientVersions are the versions that clients said that they have.
type clientVersions struct {
	mu    sync.RWMutex
	known map[string]struct{}
}

func (c *clientVersions) label(said []string) string {
	if len(said) == 0 {
		return "unknown"
	}
	c.mu.RLock()
	_, known := c.known[said[0]]
	c.mu.RUnlock()
	if known {
		return said[0]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxClientVersions {
		return "other"
	}
	if c.known == nil {
		c.known = map[string]struct{}{}
	}
	c.known[said[0]] = struct{}{}
	return said[0]
}

// countedCodec counts the bytes of messages, as they are before compression.
type countedCodec struct {
	encoding.CodecV2
	sent, received atomic.Uint64
}

func (c *countedCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, err := c.CodecV2.Marshal(v)
	c.sent.Add(uint64(b.Len()))
	return b, err
}

func (c *countedCodec) Unmarshal(data mem.BufferSlice, v any) error {
	c.received.Add(uint64(data.Len()))
	return c.CodecV2.Unmarshal(data, v)
}

// requestTypes are etcd's names of what is proposed.
var requestTypes = map[state.Kind]string{
	state.KindPut: "Put", state.KindDeleteRange: "DeleteRange", state.KindTxn: "Txn", state.KindCompact: "Compaction",
	state.KindLeaseGrant: "LeaseGrant", state.KindLeaseRevoke: "LeaseRevoke", state.KindAlarm: "Alarm",
	state.KindMemberUpdate: "ClusterMemberAttrSet", state.KindDowngrade: "DowngradeInfoSet",
	state.KindAuthEnable: "AuthEnable", state.KindAuthDisable: "AuthDisable", state.KindAuthenticate: "Authenticate",
	state.KindUserAdd: "AuthUserAdd", state.KindUserDelete: "AuthUserDelete", state.KindUserChangePassword: "AuthUserChangePassword",
	state.KindUserGrantRole: "AuthUserGrantRole", state.KindUserRevokeRole: "AuthUserRevokeRole",
	state.KindRoleAdd: "AuthRoleAdd", state.KindRoleDelete: "AuthRoleDelete",
	state.KindRoleGrantPermission: "AuthRoleGrantPermission", state.KindRoleRevokePermission: "AuthRoleRevokePermission",
}

package node

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/pkg/v3/runtime"
)

// metrics are what the rooms below rpc tell: they know no metrics, and are
// handed observers. Names, labels and buckets are etcd's.
type metrics struct {
	registry *prometheus.Registry
	disk     diskMetrics
	engine   engineMetrics
	lease    leaseMetrics
	work     workMetrics
	peers    *peerMetrics
}

// newMetrics makes what is there from the start; what a running host counts
// comes with collectHost.
func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(), disk: newDiskMetrics(), engine: newEngineMetrics(),
		lease: newLeaseMetrics(), work: newWorkMetrics(), peers: newPeerMetrics(),
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, part := range [][]prometheus.Collector{m.disk.all(), m.engine.all(), m.lease.all(), m.work.all(), m.peers.all(), fileMetrics(), neverHere()} {
		m.registry.MustRegister(part...)
	}
	return m
}

func newCounter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func newGauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

// newHistogram has buckets that double from start on.
func newHistogram(name, help string, start float64, buckets int) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(start, 2, buckets)})
}

// fileMetrics count the process's files when they are asked for.
func fileMetrics() []prometheus.Collector {
	gauge := func(name, help string, read func() (uint64, error)) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			n, _ := read() // 0 where it is not known
			return float64(n)
		})
	}
	return []prometheus.Collector{
		gauge("os_fd_used", "The number of used file descriptors.", runtime.FDUsage),
		gauge("os_fd_limit", "The file descriptor limit.", runtime.FDLimit),
	}
}

// featureMetrics tell the feature gates, which do not change while a member runs.
func featureMetrics(g featuregate.MutableFeatureGate) prometheus.Collector {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "etcd_server_feature_enabled", Help: "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
	}, []string{"name", "stage"})
	for feature, spec := range g.GetAll() {
		enabled := 0.0
		if g.Enabled(feature) {
			enabled = 1
		}
		vec.WithLabelValues(string(feature), string(spec.PreRelease)).Set(enabled)
	}
	return vec
}

// neverHere are etcd's names for what never happens in a member of this kind, for
// dashboards and tests that look for them: nothing was counted, and each says
// why.
func neverHere() []prometheus.Collector {
	const (
		tree    = "Always empty: the engines have no B+ tree to do this to."
		records = "Always empty: what is saved is not marshalled, the engine has it."
		v2      = "Always 0: there is no v2 store."
		proxy   = "Always 0 for a member; grpc-proxy counts it."
	)
	return []prometheus.Collector{
		newHistogram("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", tree, 0.001, 14),
		newHistogram("etcd_debugging_disk_backend_commit_spill_duration_seconds", tree, 0.001, 14),
		newHistogram("etcd_debugging_snap_save_marshalling_duration_seconds", records, 0.001, 14),
		newCounter("etcd_debugging_store_expires_total", v2),
		newCounter("etcd_debugging_store_watch_requests_total", v2),
		newGauge("etcd_debugging_store_watchers", v2),
		newGauge("etcd_grpc_proxy_cache_hits_total", proxy),
		newGauge("etcd_grpc_proxy_cache_keys_total", proxy),
		newGauge("etcd_grpc_proxy_cache_misses_total", proxy),
		newCounter("etcd_grpc_proxy_events_coalescing_total", proxy),
		newCounter("etcd_grpc_proxy_watchers_coalescing_total", proxy),
	}
}

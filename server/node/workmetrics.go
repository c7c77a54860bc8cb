package node

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metastore.io/metastore/server/host"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// workMetrics observe the host.
type workMetrics struct {
	apply                    prometheus.Observer
	applyVec                 *prometheus.HistogramVec
	pause, indexPause, sweep prometheus.Histogram
	sweptRows                prometheus.Counter
	lastSweep                prometheus.Gauge
	flush, flushSync         prometheus.Histogram
	snapshot, snapshotSync   prometheus.Histogram
	promoted                 prometheus.Counter
	notPromoted              *prometheus.CounterVec
}

func newWorkMetrics() workMetrics {
	m := workMetrics{
		applyVec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "etcd_server_apply_duration_seconds", Help: "The latency distributions of applying the commands that are applied together.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 20),
		}, []string{"version", "op", "success"}),
		pause:        newHistogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Bucketed histogram of the pauses of applying while compaction removes rows.", 1, 13),
		indexPause:   newHistogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "Bucketed histogram of index compaction pause duration: the index loses its rows in the pauses of the database.", 0.5, 14),
		sweep:        newHistogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Bucketed histogram of db compaction total duration.", 100, 14),
		sweptRows:    newCounter("etcd_debugging_mvcc_db_compaction_keys_total", "Total number of db keys compacted."),
		lastSweep:    newGauge("etcd_debugging_mvcc_db_compaction_last", "The unix time of the last db compaction. Resets to 0 on start."),
		flush:        newHistogram("etcd_debugging_snap_save_total_duration_seconds", "The total latency distributions of making the state durable and shortening the log.", 0.001, 14),
		flushSync:    newHistogram("etcd_snap_fsync_duration_seconds", "The latency distributions of making the state durable, so that the log may be shortened.", 0.001, 14),
		snapshot:     newHistogram("etcd_snap_db_save_total_duration_seconds", "The total latency distributions of storing a received snapshot.", 0.1, 10),
		snapshotSync: newHistogram("etcd_snap_db_fsync_duration_seconds", "The latency distributions of fsyncing a received snapshot.", 0.001, 14),
		promoted:     newCounter("etcd_server_learner_promote_successes", "The total number of successful learner promotions while this member is leader."),
		notPromoted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "etcd_server_learner_promote_failures",
			Help: "The total number of failed learner promotions (likely learner not ready) while this member is leader.",
		}, []string{"Reason"}),
	}
	m.apply = m.applyVec.WithLabelValues("v3", "Batch", "true")
	return m
}

func (m workMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.applyVec, m.pause, m.indexPause, m.sweep, m.sweptRows, m.lastSweep,
		m.flush, m.flushSync, m.snapshot, m.snapshotSync, m.promoted, m.notPromoted}
}

func (m workMetrics) Applied(took time.Duration) { m.apply.Observe(took.Seconds()) }

func (m workMetrics) Swept(pause time.Duration, rows uint64) {
	ms := pause.Seconds() * 1e3
	m.pause.Observe(ms)
	m.indexPause.Observe(ms)
	m.sweptRows.Add(float64(rows))
}

func (m workMetrics) SweepEnded(took time.Duration) {
	m.sweep.Observe(took.Seconds() * 1e3)
	m.lastSweep.SetToCurrentTime()
}

func (m workMetrics) Flushed(sync, total time.Duration) {
	m.flushSync.Observe(sync.Seconds())
	m.flush.Observe(total.Seconds())
}

func (m workMetrics) SnapshotStored(sync, total time.Duration) {
	m.snapshotSync.Observe(sync.Seconds())
	m.snapshot.Observe(total.Seconds())
}

func (m workMetrics) Promoted(err error) {
	if err == nil {
		m.promoted.Inc()
		return
	}
	m.notPromoted.WithLabelValues(promoteReason(err)).Inc()
}

// promoteReason is what a failed promotion is counted under: few texts.
func promoteReason(err error) string {
	for _, known := range []error{replica.ErrLearnerNotReady, state.ErrMemberNotFound, state.ErrNotLearner, replica.ErrUnhealthy, replica.ErrTimeout} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "other"
}

// collectHost reads what a host has counted when it is asked for.
func collectHost(h *host.Host) []prometheus.Collector {
	counter := func(name, help string, read func(host.Counts) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(read(h.Counts())) })
	}
	return []prometheus.Collector{
		counter("etcd_server_slow_apply_total", "The total number of slow apply requests (likely overloaded from slow disk).",
			func(c host.Counts) uint64 { return c.SlowApplies }),
		counter("etcd_server_heartbeat_send_failures_total", "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
			func(c host.Counts) uint64 { return c.LateHeartbeats }),
		counter("etcd_debugging_server_lease_expired_total", "The total number of expired leases.",
			func(c host.Counts) uint64 { return c.ExpiredLeases }),
		counter("etcd_server_slow_read_indexes_total", "The total number of pending read indexes not in sync with leader's or timed out read index requests.",
			func(c host.Counts) uint64 { return c.SlowReads }),
		counter("etcd_server_read_indexes_failed_total", "The total number of failed read indexes seen.",
			func(c host.Counts) uint64 { return c.FailedReads }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "etcd_server_snapshot_apply_in_progress_total", Help: "1 if the server is applying the incoming snapshot. 0 if none.",
		}, func() float64 {
			if h.Counts().Installing {
				return 1
			}
			return 0
		}),
	}
}

package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// diskMetrics observe the log.
type diskMetrics struct {
	write, sync prometheus.Histogram
	bytes       prometheus.Gauge
}

func newDiskMetrics() diskMetrics {
	return diskMetrics{
		write: newHistogram("etcd_disk_wal_write_duration_seconds", "The latency distributions of write called by WAL.", 0.001, 14),
		sync:  newHistogram("etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL.", 0.001, 14),
		bytes: newGauge("etcd_disk_wal_write_bytes_total", "Total number of bytes written in WAL."), // a gauge in etcd, too
	}
}

func (m diskMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.write, m.sync, m.bytes}
}

func (m diskMetrics) Appended(sizeBytes int, write, sync time.Duration) {
	m.bytes.Add(float64(sizeBytes))
	m.write.Observe(write.Seconds())
	m.sync.Observe(sync.Seconds())
}

// engineMetrics observe the engine. A commit is one batch: engines do not sync
// it, since the log has what it holds.
type engineMetrics struct {
	commit, commitWrite, defragment prometheus.Histogram
	defragmenting, views            prometheus.Gauge
}

func newEngineMetrics() engineMetrics {
	return engineMetrics{
		commit:        newHistogram("etcd_disk_backend_commit_duration_seconds", "The latency distributions of the engine's commit of a batch.", 0.001, 14),
		commitWrite:   newHistogram("etcd_debugging_disk_backend_commit_write_duration_seconds", "The part of a commit that writes: here, all of it.", 0.001, 14),
		defragment:    newHistogram("etcd_disk_backend_defrag_duration_seconds", "The latency distribution of backend defragmentation.", 0.1, 13),
		defragmenting: newGauge("etcd_disk_defrag_inflight", "Whether or not defrag is active on the member. 1 means active, 0 means not."),
		views:         newGauge("etcd_mvcc_db_open_read_transactions", "The number of currently open frozen views of the engine."),
	}
}

func (m engineMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.commit, m.commitWrite, m.defragment, m.defragmenting, m.views}
}

func (m engineMetrics) Applied(took time.Duration) {
	s := took.Seconds()
	m.commit.Observe(s)
	m.commitWrite.Observe(s)
}

func (m engineMetrics) DefragmentBegins() { m.defragmenting.Inc() }

func (m engineMetrics) DefragmentEnds(took time.Duration) {
	m.defragmenting.Dec()
	m.defragment.Observe(took.Seconds())
}

func (m engineMetrics) SnapshotOpened() { m.views.Inc() }
func (m engineMetrics) SnapshotClosed() { m.views.Dec() }

// leaseMetrics observe leases.
type leaseMetrics struct {
	granted, revoked, renewed prometheus.Counter
	ttl                       prometheus.Histogram
}

func newLeaseMetrics() leaseMetrics {
	return leaseMetrics{
		granted: newCounter("etcd_debugging_lease_granted_total", "The total number of granted leases."),
		revoked: newCounter("etcd_debugging_lease_revoked_total", "The total number of revoked leases."),
		renewed: newCounter("etcd_debugging_lease_renewed_total", "The number of renewed leases seen by the leader."),
		ttl:     newHistogram("etcd_debugging_lease_ttl_total", "Bucketed histogram of lease TTLs.", 1, 24),
	}
}

func (m leaseMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.granted, m.revoked, m.renewed, m.ttl}
}

func (m leaseMetrics) Granted(ttlSeconds int64) {
	m.granted.Inc()
	m.ttl.Observe(float64(ttlSeconds))
}

func (m leaseMetrics) Revoked() { m.revoked.Inc() }
func (m leaseMetrics) Renewed() { m.renewed.Inc() }

package rpc

import (
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"go.etcd.io/etcd/api/v3/version"

	"metastore.io/metastore/server/mvcc"
)

// metrics are etcd's, where the meaning is etcd's. Most are read from the
// backend when they are asked for.
type metrics struct {
	s *Server

	ranges, txns, proposalsFailed atomic.Uint64
	healthy, unhealthy            atomic.Uint64
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descHasLeader     = describe("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.")
	descIsLeader      = describe("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.")
	descIsLearner     = describe("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.")
	descLeaderChanges = describe("etcd_server_leader_changes_seen_total", "The number of leader changes seen.")
	descCommitted     = describe("etcd_server_proposals_committed_total", "The total number of consensus proposals committed.")
	descApplied       = describe("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.")
	descPending       = describe("etcd_server_proposals_pending", "The current number of pending proposals to commit.")
	descFailed        = describe("etcd_server_proposals_failed_total", "The total number of failed proposals seen.")
	descQuota         = describe("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.")
	descHealthy       = describe("etcd_server_health_success", "The total number of successful health checks.")
	descUnhealthy     = describe("etcd_server_health_failures", "The total number of failed health checks.")
	descVersion       = describe("etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.", "server_version")
	descGo            = describe("etcd_server_go_version", "Which Go version server is running with. 1 for 'server_go_version' label with current version.", "server_go_version")
	descID            = describe("etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.", "server_id")
	descCluster       = describe("etcd_cluster_version", "Which version is running. 1 for 'cluster_version' label with current cluster version", "cluster_version")
	descKnownPeers    = describe("etcd_network_known_peers", "The current number of known peers.", "Local", "Remote")
	descReceived      = describe("etcd_network_client_grpc_received_bytes_total", "The total number of bytes received from grpc clients.")
	descSent          = describe("etcd_network_client_grpc_sent_bytes_total", "The total number of bytes sent to grpc clients.")
	descMetaStore     = describe("metastore_build_info", "Which version of MetaStore is running; always 1.", "version")

	descTotalBytes = describe("etcd_mvcc_db_total_size_in_bytes", "Total size of the underlying database physically allocated in bytes.")
	descUsedBytes  = describe("etcd_mvcc_db_total_size_in_use_in_bytes", "Total size of the underlying database logically in use in bytes.")
	descPuts       = describe("etcd_mvcc_put_total", "Total number of puts seen by this member.")
	descDeletes    = describe("etcd_mvcc_delete_total", "Total number of deletes seen by this member.")
	descRanges     = describe("etcd_mvcc_range_total", "Total number of ranges seen by this member.")
	descTxns       = describe("etcd_mvcc_txn_total", "Total number of txns seen by this member.")

	descRev         = describe("etcd_debugging_mvcc_current_revision", "The current revision of store.")
	descCompactRev  = describe("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.")
	descKeys        = describe("etcd_debugging_mvcc_keys_total", "Total number of keys.")
	descStreams     = describe("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.")
	descWatchers    = describe("etcd_debugging_mvcc_watcher_total", "Total number of watchers.")
	descSlow        = describe("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.")
	descEvents      = describe("etcd_debugging_mvcc_events_total", "Total number of events sent by this member.")
	descUnsent      = describe("etcd_debugging_mvcc_pending_events_total", "Total number of pending events to be sent.")
	descPutBytes    = describe("etcd_debugging_mvcc_total_put_size_in_bytes", "The total size of put kv pairs seen by this member.")
	descAuthRev     = describe("etcd_debugging_auth_revision", "The current revision of auth store.")
	descAlarmActive = describe("etcd_debugging_server_alarms", "Alarms that are on, by member and kind.", "server_id", "alarm_type")
	descLeases      = describe("metastore_leases", "Number of leases that are granted now.")
)

// Describe implements prometheus.Collector. It tells nothing beforehand, since
// the backend may not run yet.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(descVersion, 1, EtcdVersion)
	gauge(descMetaStore, 1, Version)
	gauge(descQuota, float64(m.s.o.QuotaBytes))
	counter(descFailed, m.proposalsFailed.Load())
	counter(descRanges, m.ranges.Load())
	counter(descTxns, m.txns.Load())
	counter(descHealthy, m.healthy.Load())
	counter(descUnhealthy, m.unhealthy.Load())
	gauge(descGo, 1, runtime.Version())
	counter(descReceived, m.s.calls.bytes.received.Load())
	counter(descSent, m.s.calls.bytes.sent.Load())
	m.collectReplica(gauge, counter)
	m.collectMembers(gauge)
	m.collectStore(gauge)
	m.collectWatch(gauge, counter)
}

type (
	gaugeFunc   func(d *prometheus.Desc, v float64, labels ...string)
	counterFunc func(d *prometheus.Desc, v uint64)
)

func (m *metrics) collectReplica(gauge gaugeFunc, counter counterFunc) {
	st := m.s.b.Status()
	gauge(descHasLeader, number(st.Leader != 0))
	gauge(descIsLeader, number(st.IsLeader()))
	gauge(descIsLearner, number(st.Learner))
	gauge(descCommitted, float64(st.Committed)) // gauges in etcd, too
	gauge(descApplied, float64(st.Applied))
	gauge(descPending, float64(st.Pending))
	counter(descLeaderChanges, st.LeaderChanges)
}

func (m *metrics) collectStore(gauge gaugeFunc) {
	machine := m.s.b.Machine()
	size := machine.Size()
	gauge(descTotalBytes, float64(size.TotalBytes))
	gauge(descUsedBytes, float64(size.UsedBytes))
	kv := machine.KV()
	gauge(descRev, float64(kv.Rev()))
	gauge(descCompactRev, float64(kv.CompactRev()))
	if all, err := kv.Range([]byte{0}, []byte{0}, mvcc.RangeOptions{CountOnly: true}); err == nil {
		gauge(descKeys, float64(all.Count))
	}
	gauge(descLeases, float64(machine.Leases().Len()))
	gauge(descAuthRev, float64(machine.Auth().Revision()))
}

func (m *metrics) collectMembers(gauge gaugeFunc) {
	self, machine := hexID(m.s.b.Status().ID), m.s.b.Machine()
	gauge(descID, 1, self)
	if v := machine.ClusterVersion(); v != "" {
		gauge(descCluster, 1, version.Cluster(v)) // without the patch
	}
	for _, other := range machine.Members() {
		gauge(descKnownPeers, 1, self, hexID(other.ID))
	}
	for _, a := range machine.Alarms() {
		gauge(descAlarmActive, 1, hexID(a.MemberID), a.Alarm.String())
	}
}

func hexID(id uint64) string { return strconv.FormatUint(id, 16) }

func (m *metrics) collectWatch(gauge gaugeFunc, counter counterFunc) {
	w := m.s.b.Hub().Stats()
	gauge(descStreams, float64(w.Streams))
	gauge(descWatchers, float64(w.Watchers))
	gauge(descSlow, float64(w.Lagging))
	counter(descEvents, w.Sent)
	gauge(descUnsent, float64(w.Pending))
	gauge(descPutBytes, float64(w.PutBytes)) // a gauge in etcd, too
	counter(descPuts, w.Puts)
	counter(descDeletes, w.Deletes)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

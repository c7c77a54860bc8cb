package node

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// gathered sums what a registry shows under a name: values of counters and
// gauges, and how often histograms observed. A name may pick a label's value,
// as in name{value}.
func gathered(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	name, label, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	var sum float64
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && hasLabel(m, label) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func hasLabel(m *dto.Metric, value string) bool {
	for _, l := range m.Label {
		if l.GetValue() == value {
			return true
		}
	}
	return value == ""
}

// wantMoved does something and waits until each of the metrics shows more than
// before.
func wantMoved(t *testing.T, r *prometheus.Registry, do func(), names ...string) {
	t.Helper()
	before := map[string]float64{}
	for _, n := range names {
		before[n] = gathered(t, r, n)
	}
	do()
	wait := time.NewTicker(5 * time.Millisecond)
	defer wait.Stop()
	deadline := time.After(30 * time.Second)
	for _, n := range names {
		for gathered(t, r, n) <= before[n] {
			select {
			case <-wait.C:
			case <-deadline:
				t.Fatalf("%s stays at %v", n, before[n])
			}
		}
	}
}

func clientOf(t *testing.T, address string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Each metric moves when what it measures happens.
func TestMetricsOfOneMember(t *testing.T) {
	for _, engine := range damageEngines() {
		t.Run(engine, func(t *testing.T) {
			config := loneConfig(engine, t.TempDir())
			config.WarnApplyAfter = 1 // everything is slow
			n := startReady(t, config)[0]
			c := clientOf(t, n.serve.client[0].l.Addr().String())
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			for _, step := range metricSteps(ctx, t, c) {
				t.Run(step.what, func(t *testing.T) { wantMoved(t, n.metrics.registry, step.do, step.moves...) })
			}
			if open := gathered(t, n.metrics.registry, "etcd_mvcc_db_open_read_transactions"); open != 0 {
				t.Errorf("%v views stayed open", open)
			}
		})
	}
}

type metricStep struct {
	what  string
	do    func()
	moves []string
}

func metricSteps(ctx context.Context, t *testing.T, c *clientv3.Client) []metricStep {
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func() { _, err := c.Put(ctx, "k", "v"); must(nil, err) }
	endpoint := c.Endpoints()[0]
	return []metricStep{
		{"put", put, []string{
			"etcd_mvcc_put_total", "etcd_debugging_mvcc_total_put_size_in_bytes", "etcd_debugging_mvcc_keys_total", "etcd_debugging_mvcc_current_revision",
			"etcd_disk_wal_write_duration_seconds", "etcd_disk_wal_fsync_duration_seconds", "etcd_disk_wal_write_bytes_total",
			"etcd_disk_backend_commit_duration_seconds", "etcd_debugging_disk_backend_commit_write_duration_seconds",
			"etcd_server_proposals_committed_total", "etcd_server_proposals_applied_total", "etcd_server_apply_duration_seconds", "etcd_server_slow_apply_total",
			"etcd_server_request_duration_seconds{Put}", "etcd_server_client_requests_total{unary}", "grpc_server_handled_total{Put}",
			"etcd_network_client_grpc_received_bytes_total", "etcd_network_client_grpc_sent_bytes_total",
		}},
		{"range", func() { _, err := c.Get(ctx, "k"); must(nil, err) },
			[]string{"etcd_mvcc_range_total", "etcd_server_range_duration_seconds{true}", "etcd_server_request_duration_seconds{Range}"}},
		{"range of a revision to come", func() {
			if _, err := c.Get(ctx, "k", clientv3.WithRev(1e6)); err == nil {
				t.Error("a revision to come was read")
			}
		}, []string{"etcd_server_range_duration_seconds{false}", "etcd_server_request_duration_seconds{false}"}},
		{"transaction", func() {
			_, err := c.Txn(ctx).Then(clientv3.OpPut("k", "2"), clientv3.OpPut("l", "2")).Commit()
			must(nil, err)
		},
			[]string{"etcd_mvcc_txn_total", "etcd_server_request_duration_seconds{Txn}"}},
		{"read-only transaction", func() { _, err := c.Txn(ctx).Then(clientv3.OpGet("k")).Commit(); must(nil, err) },
			[]string{"etcd_server_request_duration_seconds{ReadonlyTxn}"}},
		{"delete", func() { _, err := c.Delete(ctx, "l"); must(nil, err) }, []string{"etcd_mvcc_delete_total"}},
		{"watch", func() {
			w := c.Watch(ctx, "k", clientv3.WithRev(1))
			<-w
			must(nil, c.RequestProgress(ctx))
			<-w
		}, []string{
			"etcd_debugging_mvcc_watch_stream_total", "etcd_debugging_mvcc_watcher_total", "etcd_debugging_mvcc_events_total", "etcd_server_client_requests_total{stream}",
			"etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
			"etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
		}},
		{"lease", func() {
			l, err := c.Grant(ctx, 1)
			must(nil, err)
			_, err = c.KeepAliveOnce(ctx, l.ID)
			must(nil, err)
		}, []string{
			"etcd_debugging_lease_granted_total", "etcd_debugging_lease_ttl_total", "etcd_debugging_lease_renewed_total",
			"etcd_debugging_server_lease_expired_total", "etcd_debugging_lease_revoked_total",
		}},
		{"compaction", func() {
			put()
			r, err := c.Put(ctx, "k", "v")
			must(nil, err)
			_, err = c.Compact(ctx, r.Header.Revision)
			must(nil, err)
		}, []string{
			"etcd_debugging_mvcc_compact_revision", "etcd_debugging_mvcc_db_compaction_keys_total", "etcd_debugging_mvcc_db_compaction_last",
			"etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
			"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
		}},
		{"hashes", func() {
			_, err := c.HashKV(ctx, endpoint, 0)
			must(nil, err)
			_, err = pb.NewMaintenanceClient(c.ActiveConnection()).Hash(ctx, &pb.HashRequest{})
			must(nil, err)
		}, []string{"etcd_mvcc_hash_duration_seconds", "etcd_mvcc_hash_rev_duration_seconds"}},
		{"defragment", func() { _, err := c.Defragment(ctx, endpoint); must(nil, err) }, []string{"etcd_disk_backend_defrag_duration_seconds"}},
		{"snapshot", func() {
			r, err := c.Snapshot(ctx)
			must(nil, err)
			must(io.Copy(io.Discard, r))
			must(nil, r.Close())
		}, []string{"etcd_disk_backend_snapshot_duration_seconds"}},
		{"flush", func() {
			for range 100 {
				put()
			}
		}, []string{"etcd_snap_fsync_duration_seconds", "etcd_debugging_snap_save_total_duration_seconds"}},
		{"promotion", func() {
			if _, err := c.MemberPromote(ctx, 77); err == nil {
				t.Error("an unknown member was promoted")
			}
		}, []string{"etcd_server_learner_promote_failures{membership: ID not found}"}},
		{"alarm", func() {
			_, err := pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: pb.AlarmType_NOSPACE})
			must(nil, err)
		}, []string{"etcd_debugging_server_alarms{NOSPACE}"}},
		{"users", func() { _, err := c.UserAdd(ctx, "u", "p"); must(nil, err) }, []string{"etcd_debugging_auth_revision"}},
	}
}

// What is constant says what this member is.
func TestMetricsThatTell(t *testing.T) {
	n := startReady(t, loneConfig(EngineMemory, t.TempDir()))[0]
	self := fmt.Sprintf("%x", n.host.Status().ID)
	for _, name := range []string{
		"etcd_server_id{" + self + "}", "etcd_network_known_peers{" + self + "}", "etcd_server_go_version", "os_fd_used", "os_fd_limit",
		"etcd_server_has_leader", "etcd_server_is_leader", "process_start_time_seconds", "go_goroutines", "etcd_server_feature_enabled{TxnModeWriteWithSharedBuffer}",
	} {
		if gathered(t, n.metrics.registry, name) <= 0 {
			t.Errorf("%s is not set", name)
		}
	}
}

// Metrics of the network move on both sides, also those of a member that was
// away for too long.
func TestMetricsOfThreeMembers(t *testing.T) {
	configs := threeConfigs(t)
	for i := range configs {
		configs[i].SnapshotCount, configs[i].SnapshotCatchUp = 10, 5
	}
	nodes := startReady(t, configs...)
	c := clientOf(t, configs[0].ListenClientURLs[0].Host)
	r, away := nodes[0].metrics.registry, fmt.Sprintf("%x", nodes[2].host.Status().ID)
	write := func() {
		for i := range 200 {
			if _, err := c.Put(t.Context(), fmt.Sprint("k", i), strings.Repeat("v", 1000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantMoved(t, r, write, "etcd_network_peer_sent_bytes_total{"+away+"}", "etcd_network_peer_received_bytes_total{"+away+"}",
		"etcd_network_peer_round_trip_time_seconds{"+away+"}")
	if n := gathered(t, r, "etcd_network_active_peers"); n != 2 {
		t.Errorf("%v peers are active, want 2", n)
	}
	wantMoved(t, r, func() {
		if err := nodes[2].Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		write()
	}, "etcd_network_disconnected_peers_total{"+away+"}")
	if n := gathered(t, r, "etcd_network_active_peers"); n != 1 {
		t.Errorf("%v peers are active, want 1", n)
	}
	leader := nodes[0]
	if nodes[1].host.Status().IsLeader() {
		leader = nodes[1]
	}
	var back *prometheus.Registry
	wantMoved(t, leader.metrics.registry, func() { back = startReady(t, configs[2])[0].metrics.registry },
		"etcd_network_snapshot_send_success{"+away+"}", "etcd_network_snapshot_send_total_duration_seconds{"+away+"}")
	for _, name := range []string{
		"etcd_network_snapshot_receive_success", "etcd_network_snapshot_receive_total_duration_seconds",
		"etcd_snap_db_fsync_duration_seconds", "etcd_snap_db_save_total_duration_seconds",
	} {
		if gathered(t, back, name) == 0 {
			t.Errorf("%s shows no snapshot received", name)
		}
	}
	for _, reg := range []*prometheus.Registry{back, leader.metrics.registry} {
		for _, name := range []string{"etcd_network_snapshot_send_inflights_total", "etcd_network_snapshot_receive_inflights_total", "etcd_server_snapshot_apply_in_progress_total"} {
			if n := gathered(t, reg, name); n != 0 {
				t.Errorf("%s: %v are still under way", name, n)
			}
		}
	}
}

package rpc

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/watch"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

func TestLeases(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	ctx, c := t.Context(), s.client
	grant := must[*clientv3.LeaseGrantResponse](t)
	a, b := grant(c.Grant(ctx, 60)), grant(c.Grant(ctx, 60))
	if a.ID <= 0 || b.ID <= 0 || a.ID == b.ID || a.TTL != 60 || a.ResponseHeader.MemberId != testMember {
		t.Errorf("granted %v, %v", a, b)
	}
	_, err := pb.NewLeaseClient(s.conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: int64(a.ID), TTL: 5})
	if !errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseExist) {
		t.Errorf("second grant: %v", err)
	}
	must[*clientv3.PutResponse](t)(c.Put(ctx, "x", "", clientv3.WithLease(a.ID)))
	must[*clientv3.PutResponse](t)(c.Put(ctx, "w", "", clientv3.WithLease(a.ID)))
	ttl := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(ctx, a.ID, clientv3.WithAttachedKeys()))
	if ttl.GrantedTTL != 60 || ttl.TTL < 50 || ttl.TTL > 60 || len(ttl.Keys) != 2 {
		t.Errorf("time to live %+v", ttl)
	}
	if k := must[*clientv3.LeaseKeepAliveResponse](t)(c.KeepAliveOnce(ctx, a.ID)); k.TTL != 60 {
		t.Errorf("kept alive %+v", k)
	}
	if _, err := c.KeepAliveOnce(ctx, 12345); !errors.Is(err, rpctypes.ErrLeaseNotFound) { // TTL 0 on the wire
		t.Errorf("keep-alive of an unknown lease: %v", err)
	}
	if l := must[*clientv3.LeaseLeasesResponse](t)(c.Leases(ctx)); len(l.Leases) != 2 {
		t.Errorf("leases %v", l.Leases)
	}
	must[*clientv3.LeaseRevokeResponse](t)(c.Revoke(ctx, a.ID))
	if g := must[*clientv3.GetResponse](t)(c.Get(ctx, "x")); g.Count != 0 {
		t.Error("the key outlives its lease")
	}
	if ttl := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(ctx, a.ID)); ttl.TTL != -1 {
		t.Errorf("time to live of a revoked lease %+v", ttl)
	}
}

func TestCluster(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	ctx, c := t.Context(), s.client
	add := must[*clientv3.MemberAddResponse](t)(c.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:12380"}))
	id := add.Member.ID
	if !add.Member.IsLearner || id == 0 || id>>63 != 0 || len(add.Members) != 2 || add.Header.ClusterId != testCluster {
		t.Errorf("added %v", add)
	}
	if _, err := c.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:22380"}); !errors.Is(err, rpctypes.ErrTooManyLearners) {
		t.Errorf("second learner: %v", err)
	}
	up := must[*clientv3.MemberUpdateResponse](t)(c.MemberUpdate(ctx, id, []string{"http://127.0.0.1:32380"}))
	i := slices.IndexFunc(up.Members, func(m *pb.Member) bool { return m.ID == id })
	if i < 0 || up.Members[i].PeerURLs[0] != "http://127.0.0.1:32380" {
		t.Errorf("updated %v", up.Members)
	}
	if p := must[*clientv3.MemberPromoteResponse](t)(c.MemberPromote(ctx, id)); len(p.Members) != 2 {
		t.Errorf("promoted %v", p.Members)
	}
	if r := must[*clientv3.MemberRemoveResponse](t)(c.MemberRemove(ctx, id)); len(r.Members) != 1 {
		t.Errorf("removed %v", r.Members)
	}
	l := must[*clientv3.MemberListResponse](t)(c.MemberList(ctx))
	if len(l.Members) != 1 || l.Members[0].Name != "one" || l.Members[0].ClientURLs[0] != "http://127.0.0.1:2379" || l.Header.Revision != 0 {
		t.Errorf("members %v, header %v", l.Members, l.Header)
	}
}

func TestMaintenance(t *testing.T) {
	s := serve(t, Options{Settings: `{"a":1}`}, watch.Options{})
	ctx, c := t.Context(), s.client
	must[*clientv3.PutResponse](t)(c.Put(ctx, "a", "1"))
	st := must[*clientv3.StatusResponse](t)(c.Status(ctx, s.addr))
	if st.Version != "3.7.3" || st.StorageVersion != "3.7.0" || st.Leader != testMember || st.RaftIndex != 2 || st.RaftAppliedIndex != 2 ||
		st.RaftTerm != 5 || st.DbSize == 0 || st.DbSizeInUse == 0 || st.DbSizeQuota != 2<<30 || st.IsLearner || len(st.Errors) != 0 || st.Header.Revision != 2 {
		t.Errorf("status %v", st)
	}
	var header metadata.MD
	must[*pb.StatusResponse](t)(pb.NewMaintenanceClient(s.conn).Status(ctx, &pb.StatusRequest{}, grpc.Header(&header)))
	if got := slices.Concat(header[headerVersion], header[headerLogIndex], header[headerLogTerm], header[headerSettings]); !slices.Equal(got, []string{Version, "42", "7", `{"a":1}`}) {
		t.Errorf("version, end of the log and settings are %v", got)
	}
	h := must[*clientv3.HashKVResponse](t)(c.HashKV(ctx, s.addr, 0))
	if h.Hash == 0 || h.HashRevision != 2 || h.Header.Revision != 2 {
		t.Errorf("hash %v", h)
	}
	if r := must[*pb.HashResponse](t)(pb.NewMaintenanceClient(s.conn).Hash(ctx, &pb.HashRequest{})); r.Hash == 0 || r.Header.Revision != 2 {
		t.Errorf("hash %v", r)
	}
	must[*clientv3.DefragmentResponse](t)(c.Defragment(ctx, s.addr))
	if a := must[*clientv3.AuthStatusResponse](t)(c.AuthStatus(ctx)); a.Enabled {
		t.Errorf("auth status %v", a)
	}
	hc := must[*healthpb.HealthCheckResponse](t)(healthpb.NewHealthClient(s.conn).Check(ctx, &healthpb.HealthCheckRequest{}))
	if hc.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health %v", hc)
	}
	s.set(func(r *replica.Status) { r.Leader = 7 })
	if _, err := c.MoveLeader(ctx, testMember); !errors.Is(err, rpctypes.ErrNotLeader) {
		t.Errorf("move leader on a follower: %v", err)
	}
	s.set(func(r *replica.Status) { r.Leader = 0 })
	if st := must[*clientv3.StatusResponse](t)(c.Status(ctx, s.addr)); !slices.Equal(st.Errors, []string{"etcdserver: no leader"}) {
		t.Errorf("errors %q", st.Errors)
	}
}

func TestHTTP(t *testing.T) {
	b := newMember(t, watch.Options{})
	s, err := New(b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := s.HTTPHandler()
	fetch := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		body, _ := io.ReadAll(w.Body)
		return w.Code, strings.TrimSpace(string(body))
	}
	check := func(path string, code int, body string) {
		t.Helper()
		if c, got := fetch(path); c != code || got != body {
			t.Errorf("%s: %d %q, want %d %q", path, c, got, code, body)
		}
	}
	_, version := fetch("/version")
	var v map[string]string
	if err := json.Unmarshal([]byte(version), &v); err != nil || v["etcdserver"] != "3.7.3" || v["storage"] != "3.7.0" || v["etcdcluster"] == "" || len(v) != 3 {
		t.Errorf("version %s", version)
	}
	const healthy = `{"health":"true","reason":""}`
	check("/health", 200, healthy)
	check("/livez", 200, "ok")
	check("/readyz", 200, "ok")
	check("/livez?verbose", 200, "[+]serializable_read ok\nok")
	check("/readyz?verbose", 200, "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok")
	check("/readyz/non_learner?verbose", 200, "[+]non_learner ok\nok")
	check("/nothing", 404, "404 page not found")

	b.set(func(st *replica.Status) { st.Learner = true })
	check("/readyz/non_learner", 503, "[-]non_learner failed: not supported for learner")
	check("/readyz?exclude=non_learner", 200, "ok")
	b.set(func(st *replica.Status) { st.Learner, st.Leader = false, 0 })
	check("/health", 503, `{"health":"false","reason":"RAFT NO LEADER"}`)
	check("/health?serializable=true", 200, healthy)
	b.set(func(st *replica.Status) { st.Leader = testMember })
	b.setFail(replica.ErrTimeout)
	check("/health", 503, `{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}`)
	check("/readyz/linearizable_read", 503, "[-]linearizable_read failed: etcdserver: request timed out")
	check("/livez", 200, "ok")
	b.setFail(nil)

	ms := &maintenanceServer{Server: s}
	for _, kind := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
		_, err := ms.Alarm(t.Context(), &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: testMember, Alarm: kind})
		if err != nil {
			t.Fatal(err)
		}
	}
	check("/health?exclude=CORRUPT", 503, `{"health":"false","reason":"ALARM NOSPACE"}`)
	check("/health?exclude=NOSPACE&exclude=CORRUPT", 200, healthy)
	check("/readyz/data_corruption", 503, "[-]data_corruption failed: alarm activated: CORRUPT")

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/health", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /health: %d", w.Code)
	}
}

func TestMetrics(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	must[*clientv3.PutResponse](t)(s.client.Put(t.Context(), "a", "1"))
	must[*clientv3.GetResponse](t)(s.client.Get(t.Context(), "a"))
	w := httptest.NewRecorder()
	s.s.HTTPHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := w.Body.String()
	for _, line := range []string{
		"etcd_server_has_leader 1", "etcd_server_is_leader 1", "etcd_server_leader_changes_seen_total 1",
		"etcd_server_proposals_committed_total 2", "etcd_server_proposals_applied_total 2", "etcd_server_proposals_pending 0",
		"etcd_server_proposals_failed_total 0", "etcd_mvcc_put_total 1", "etcd_mvcc_delete_total 0", "etcd_mvcc_range_total 1",
		"etcd_debugging_mvcc_current_revision 2", "etcd_debugging_mvcc_keys_total 1", "etcd_debugging_mvcc_watcher_total 0",
		`etcd_server_version{server_version="3.7.3"} 1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("metrics lack %q", line)
		}
	}
	if !strings.Contains(text, "etcd_mvcc_db_total_size_in_bytes ") {
		t.Error("metrics lack the size")
	}
}

// A lease lives for at least the shortest time, and says so.
func TestShortestLease(t *testing.T) {
	s := serve(t, Options{MinLeaseSeconds: 2}, watch.Options{})
	for asked, want := range map[int64]int64{-1: 2, 0: 2, 1: 2, 2: 2, 3: 3} {
		r, err := pb.NewLeaseClient(s.conn).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: asked})
		if err != nil || r.TTL != want {
			t.Errorf("a lease of %d s: got %d s, error %v, want %d s", asked, r.GetTTL(), err, want)
		}
	}
}

package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/watch"
)

// askHTTP is what a handler says to one request.
func askHTTP(h http.Handler, method, target string, header map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for k, v := range header {
		if k == "Host" {
			r.Host = v
		}
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestGuard(t *testing.T) {
	s, err := New(newMember(t, watch.Options{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		o              GuardOptions
		method, target string
		header         map[string]string
		status         int
		origin         string
	}{
		{"anything by default", GuardOptions{}, "GET", "http://any.test/version", nil, 200, "*"},
		{"stars", GuardOptions{CORS: []string{"*"}, HostWhitelist: []string{"*"}}, "GET", "http://any.test/version", nil, 200, "*"},
		{"a listed host", GuardOptions{HostWhitelist: []string{"a.test", "b.test"}}, "GET", "http://b.test:2379/version", nil, 200, "*"},
		{"a listed IPv6 host", GuardOptions{HostWhitelist: []string{"::1"}}, "GET", "http://[::1]:2379/version", nil, 200, "*"},
		{"a strange host", GuardOptions{HostWhitelist: []string{"a.test"}}, "GET", "http://b.test/version", nil, 421, ""},
		{"a strange host with TLS", GuardOptions{HostWhitelist: []string{"a.test"}}, "GET", "https://b.test/version", nil, 200, "*"},
		{"a listed origin", GuardOptions{CORS: []string{"http://a.test:80"}}, "GET", "http://x/version", map[string]string{"Origin": "http://a.test:80"}, 200, "http://a.test:80"},
		{"a strange origin", GuardOptions{CORS: []string{"http://a.test:80"}}, "GET", "http://x/version", map[string]string{"Origin": "http://b.test:80"}, 200, ""},
		{"a browser asks first", GuardOptions{CORS: []string{"http://a.test:80"}}, "OPTIONS", "http://x/v3/kv/range", map[string]string{"Origin": "http://a.test:80"}, 200, "http://a.test:80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := askHTTP(s.Guard(s.HTTPHandler(), c.o), c.method, c.target, c.header)
			if w.Code != c.status || w.Header().Get("Access-Control-Allow-Origin") != c.origin {
				t.Errorf("status %d, origin %q; want %d, %q", w.Code, w.Header().Get("Access-Control-Allow-Origin"), c.status, c.origin)
			}
		})
	}
}

func TestDebugVars(t *testing.T) {
	b := newMember(t, watch.Options{})
	s, err := New(b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.set(func(st *replica.Status) { st.Leader, st.Term = 0xbeef, 7 })
	var vars struct {
		Raft   raftStatus     `json:"raft.status"`
		Limit  uint64         `json:"file_descriptor_limit"`
		Memory map[string]any `json:"memstats"`
	}
	w := askHTTP(s.HTTPHandler(), "GET", "/debug/vars", nil)
	if err := json.Unmarshal(w.Body.Bytes(), &vars); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	want := raftStatus{ID: "a1", Term: 7, Commit: 1, Lead: "beef", State: "StateFollower", Applied: 1}
	if vars.Raft != want || vars.Limit == 0 || len(vars.Memory) == 0 {
		t.Errorf("got %+v", vars)
	}
}

// The metrics URLs tell less than the client URLs.
func TestMetricsHandler(t *testing.T) {
	s, err := New(newMember(t, watch.Options{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for path, status := range map[string]int{
		"/metrics": 200, "/health": 200, "/livez": 200, "/readyz": 200, "/readyz/non_learner": 200,
		"/version": 404, "/debug/vars": 404, "/v3/kv/range": 404,
	} {
		if w := askHTTP(s.MetricsHandler(), "GET", path, nil); w.Code != status {
			t.Errorf("%s: %d, want %d", path, w.Code, status)
		}
	}
}

func TestCheckMetrics(t *testing.T) {
	b := newMember(t, watch.Options{})
	s, err := New(b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := s.HTTPHandler()
	askHTTP(h, "GET", "/readyz", nil)
	b.set(func(st *replica.Status) { st.Learner = true })
	askHTTP(h, "GET", "/readyz", nil)
	text := askHTTP(h, "GET", "/metrics", nil).Body.String()
	for _, line := range []string{
		`etcd_server_healthcheck{name="non_learner",type="readyz"} 0`,
		`etcd_server_healthcheck{name="data_corruption",type="readyz"} 1`,
		`etcd_server_healthchecks_total{name="non_learner",status="error",type="readyz"} 1`,
		`etcd_server_healthchecks_total{name="non_learner",status="success",type="readyz"} 1`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%s is missing", line)
		}
	}
}

// What HTTP answers, as a real etcd: status, kind and text.
func TestSameHTTPAsEtcd(t *testing.T) {
	etcd := "http://" + startEtcd(t).Target()
	b := newMember(t, watch.Options{})
	s, err := New(b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	mine := httptest.NewServer(s.Guard(s.HTTPHandler(), GuardOptions{}))
	defer mine.Close()
	defer http.DefaultClient.CloseIdleConnections()
	sorted := func(s string) string { // the order of etcd's checks changes
		words := strings.Fields(s)
		slices.Sort(words)
		return strings.Join(words, " ")
	}
	for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS"} {
		for _, path := range []string{
			"/health", "/health?serializable=true", "/health?exclude=NOSPACE", "/health?exclude=",
			"/livez", "/livez?verbose", "/livez/serializable_read", "/livez/serializable_read?verbose=1", "/livez/non_learner",
			"/readyz", "/readyz?verbose=false", "/readyz?exclude=non_learner&exclude=linearizable_read&exclude=serializable_read&verbose",
			"/readyz?exclude=no_such_check", "/readyz/data_corruption", "/readyz/linearizable_read?verbose", "/readyz/no_such_check",
			"/version/", "/", "/debug", "/v2/keys", "/members", "/config/local/log",
		} {
			want, _ := request(t, method, etcd+path, "", "")
			got, _ := request(t, method, mine.URL+path, "", "")
			if sorted(want) != sorted(got) {
				t.Errorf("%s %s:\netcd:      %s\nMetaStore: %s", method, path, want, got)
			}
		}
	}
}

// The health service says NOT_SERVING during a Defragment where that is wanted.
func TestHealthWhileDefragmenting(t *testing.T) {
	for _, stop := range []bool{false, true} {
		t.Run(fmt.Sprintf("stop=%v", stop), func(t *testing.T) {
			var log bytes.Buffer
			s := serve(t, Options{StopOnDefrag: stop, Logger: slog.New(slog.NewTextHandler(&log, nil))}, watch.Options{})
			if _, err := pb.NewMaintenanceClient(s.conn).Defragment(t.Context(), &pb.DefragmentRequest{}); err != nil {
				t.Fatal(err)
			}
			r, err := healthpb.NewHealthClient(s.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
			if err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
				t.Fatalf("afterwards: %v, %v", r, err)
			}
			if got := strings.Contains(log.String(), "status=NOT_SERVING"); got != stop {
				t.Errorf("NOT_SERVING %v, want %v", got, stop)
			}
		})
	}
}

// A slow request is logged with its keys, not with what is stored under them.
func TestSlowRequestsAreLogged(t *testing.T) {
	var log bytes.Buffer
	s := serve(t, Options{WarnRequestAfter: time.Nanosecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}, watch.Options{})
	if _, err := s.client.Put(t.Context(), "the-key", "the-value"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`msg="request stats"`, "the-key", "/etcdserverpb.KV/Put", "request size"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is missing in %s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "the-value") {
		t.Errorf("the value is in %s", log.String())
	}
}

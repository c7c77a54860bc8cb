package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/status"
)

// HTTPHandler serves what the client URLs answer beside the gateway: /health,
// /livez, /readyz, /version, /metrics and /debug/vars; all else is not found.
func (s *Server) HTTPHandler() http.Handler {
	mux := s.metricsMux()
	mux.Handle("/version", get(s.serveVersion))
	mux.Handle("/debug/vars", get(s.serveVars))
	return mux
}

// MetricsHandler serves the metrics and the health checks only.
func (s *Server) MetricsHandler() http.Handler { return s.metricsMux() }

func (s *Server) metricsMux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/health", get(s.serveHealth))
	mux.Handle("/metrics", promhttp.InstrumentMetricHandler(s.o.Registry, promhttp.HandlerFor(s.o.Registry, promhttp.HandlerOpts{})))
	s.mountChecks(mux, "livez", []check{{"serializable_read", s.checkSerializable}})
	s.mountChecks(mux, "readyz", []check{
		{"data_corruption", s.checkCorruption},
		{"serializable_read", s.checkSerializable},
		{"linearizable_read", s.checkLinearizable},
		{"non_learner", s.checkVoter},
	})
	return mux
}

func get(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		h(w, r)
	})
}

// serveVersion has etcd's fields, which tools parse, in the body and
// MetaStore's version in a header.
func (s *Server) serveVersion(w http.ResponseWriter, _ *http.Request) {
	cluster := s.b.Machine().ClusterVersion()
	if cluster == "" {
		cluster = "not_decided"
	}
	w.Header().Set("X-MetaStore-Version", Version)
	writeJSON(w, http.StatusOK, struct {
		Server  string `json:"etcdserver"`
		Cluster string `json:"etcdcluster"`
		Storage string `json:"storage"`
	}{EtcdVersion, cluster, s.storageVersion()})
}

type healthReport struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// serveHealth answers etcd's older health check: no alarm but excluded ones, a
// leader, and a read.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	reason := s.unhealthy(r.Context(), q["exclude"], q.Get("serializable") == "true")
	body, err := json.Marshal(healthReport{strconv.FormatBool(reason == ""), reason})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if reason != "" {
		s.metrics.unhealthy.Add(1)
		s.o.Logger.Warn("/health error", "output", string(body), "status-code", http.StatusServiceUnavailable)
		http.Error(w, string(body), http.StatusServiceUnavailable)
		return
	}
	s.metrics.healthy.Add(1)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(body) // the client has gone
}

// unhealthy says what is wrong, or nothing.
func (s *Server) unhealthy(ctx context.Context, exclude []string, serializable bool) string {
	excluded := make(map[string]bool)
	for _, name := range exclude {
		excluded[name] = true
	}
	for _, a := range s.b.Machine().Alarms() {
		if name := a.Alarm.String(); !excluded[name] {
			return "ALARM " + name
		}
	}
	if !serializable && s.b.Status().Leader == 0 {
		return "RAFT NO LEADER"
	}
	if err := s.probe(ctx, serializable); err != nil {
		return "RANGE ERROR:" + status.Convert(err).Message()
	}
	return ""
}

// probe reads one key. The error is the wire's.
func (s *Server) probe(ctx context.Context, serializable bool) error {
	m, err := s.readable(ctx, serializable)
	if err != nil {
		return err
	}
	_, err = m.Range(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, KeysOnly: true, Limit: 1})
	if err != nil {
		return wireError(err)
	}
	return nil
}

// check is one named condition of an endpoint; it is also an endpoint itself.
type check struct {
	name string
	run  func(context.Context) error
}

func (s *Server) checkSerializable(ctx context.Context) error { return s.probe(ctx, true) }
func (s *Server) checkLinearizable(ctx context.Context) error { return s.probe(ctx, false) }

func (s *Server) checkCorruption(context.Context) error {
	if s.b.Machine().HasAlarm(pb.AlarmType_CORRUPT) {
		return errors.New("alarm activated: CORRUPT")
	}
	return nil
}

func (s *Server) checkVoter(context.Context) error {
	if s.b.Status().Learner {
		return errors.New("not supported for learner")
	}
	return nil
}

// mountChecks serves all checks at a path and each at a path below it.
func (s *Server) mountChecks(mux *http.ServeMux, kind string, checks []check) {
	path := "/" + kind
	mux.Handle(path, get(func(w http.ResponseWriter, r *http.Request) {
		excluded := make(map[string]bool)
		for _, name := range r.URL.Query()["exclude"] {
			if name != "" {
				excluded[name] = true
			}
		}
		var wanted []check
		for _, c := range checks {
			if !excluded[c.name] {
				wanted = append(wanted, c)
			}
			delete(excluded, c.name)
		}
		if len(excluded) > 0 {
			s.o.Logger.Warn("some health checks cannot be excluded", "missing-health-checks", slices.Sorted(maps.Keys(excluded)))
		}
		s.serveChecks(w, r, kind, wanted)
	}))
	for _, c := range checks {
		mux.Handle(path+"/"+c.name, get(func(w http.ResponseWriter, r *http.Request) { s.serveChecks(w, r, kind, []check{c}) }))
	}
}

// serveChecks runs the checks; each is told about when one failed, or when the
// client wants to know.
func (s *Server) serveChecks(w http.ResponseWriter, r *http.Request, kind string, checks []check) {
	var report strings.Builder
	failed := false
	for _, c := range checks {
		err := c.run(r.Context())
		s.checks.record(kind, c.name, err == nil)
		if err != nil {
			failed = true
			fmt.Fprintf(&report, "[-]%s failed: %s\n", c.name, status.Convert(err).Message())
		} else {
			fmt.Fprintf(&report, "[+]%s ok\n", c.name)
		}
	}
	if failed {
		s.o.Logger.Warn("health check failed", "path", r.URL.Path, "reason", report.String(), "status-code", http.StatusServiceUnavailable)
		http.Error(w, report.String(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.URL.Query().Has("verbose") {
		_, _ = io.WriteString(w, report.String())
	}
	_, _ = io.WriteString(w, "ok\n")
}

// checkMetrics count the health checks, by endpoint and name.
type checkMetrics struct {
	result *prometheus.GaugeVec
	total  *prometheus.CounterVec
}

func newCheckMetrics() checkMetrics {
	return checkMetrics{
		result: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "etcd_server_healthcheck", Help: "The result of each kind of healthcheck.",
		}, []string{"type", "name"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "etcd_server_healthchecks_total", Help: "The total number of each kind of healthcheck.",
		}, []string{"type", "name", "status"}),
	}
}

func (m checkMetrics) register(r *prometheus.Registry) error {
	return errors.Join(r.Register(m.result), r.Register(m.total))
}

func (m checkMetrics) record(kind, name string, ok bool) {
	value, result := 0.0, "error"
	if ok {
		value, result = 1, "success"
	}
	m.result.WithLabelValues(kind, name).Set(value)
	m.total.WithLabelValues(kind, name, result).Inc()
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client has gone
}

package proxy

import (
	"net/http"
	"net/http/pprof"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
)

// handlers answer HTTP: the members' health and metrics, and the proxy's own.
type handlers struct {
	lg           *zap.Logger
	client, self *clientv3.Client
	members      *http.Client
}

func (h *handlers) checks() *http.ServeMux {
	mux := http.NewServeMux()
	grpcproxy.HandleMetrics(mux, h.members, h.client.Endpoints())
	grpcproxy.HandleHealth(h.lg, mux, h.client)
	grpcproxy.HandleProxyMetrics(mux)
	grpcproxy.HandleProxyHealth(h.lg, mux, h.self)
	return mux
}

func (h *handlers) all(profiles bool) *http.ServeMux {
	mux := h.checks()
	if profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

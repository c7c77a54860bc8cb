package rpc

import (
	"fmt"
	"net/http"
	"slices"

	"go.etcd.io/etcd/pkg/v3/httputil"
)

// GuardOptions say which HTTP requests are let through.
type GuardOptions struct {
	// CORS are the origins that browsers may come from; "*" and none are all.
	CORS []string
	// HostWhitelist are the names by which this member may be asked without TLS;
	// "*" and none are all. A web page whose DNS name was bent to this member's
	// address asks by another name.
	HostWhitelist []string
}

// Guard checks where requests come from before it hands them on.
func (s *Server) Guard(next http.Handler, o GuardOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			if host := httputil.GetHostname(r); !listed(o.HostWhitelist, host) {
				s.o.Logger.Warn("rejecting HTTP request to prevent DNS rebinding attacks", "host", host)
				http.Error(w, rebindingText(host), http.StatusMisdirectedRequest)
				return
			}
		}
		if origin := allowedOrigin(o.CORS, r); origin != "" {
			w.Header().Add("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
			w.Header().Add("Access-Control-Allow-Origin", origin)
			w.Header().Add("Access-Control-Allow-Headers", "accept, content-type, authorization")
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusOK)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// listed tells whether a list has the name, or all.
func listed(list []string, name string) bool {
	return len(list) == 0 || slices.Contains(list, "*") || slices.Contains(list, name)
}

// allowedOrigin is what a browser is told about who may read the answer.
func allowedOrigin(cors []string, r *http.Request) string {
	if listed(cors, "*") {
		return "*"
	}
	if origin := r.Header.Get("Origin"); listed(cors, origin) {
		return origin
	}
	return ""
}

func rebindingText(host string) string {
	return fmt.Sprintf(`
This member received the request, but does not know the name in its Host header.

Either
- use TLS: then any name is allowed; or
- add the name to those that are, e.g. with --host-whitelist %q.

This is to prevent attacks by DNS rebinding (CVE-2018-5702).
`, host)
}

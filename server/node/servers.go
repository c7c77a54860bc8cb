package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/soheilhy/cmux"
	"google.golang.org/grpc"

	"metastore.io/metastore/server/peer"
	"metastore.io/metastore/server/rpc"
)

// servers are this member's listeners and who answers on them. A client URL
// answers gRPC and HTTP on one port.
type servers struct {
	client, peer, metrics []net.Listener
	// failed gets the first error of a server that should still run.
	failed chan error

	grpc    *grpc.Server
	gateway *rpc.Gateway
	https   []*http.Server
	muxes   []cmux.CMux
	running sync.WaitGroup
	// stopping is closed by drain: errors of closed listeners are no failure.
	stopping chan struct{}
	stopOnce sync.Once
}

// listen opens every listener, or none.
func listen(c *Config, t tlsConfigs) (s *servers, err error) {
	s = &servers{failed: make(chan error, 1), stopping: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, l := range []struct {
		flag string
		urls []url.URL
		tls  *tls.Config
		into *[]net.Listener
	}{
		{"listen-peer-urls", c.ListenPeerURLs, t.peerServer, &s.peer},
		{"listen-client-urls", c.ListenClientURLs, t.client, &s.client},
		{"listen-metrics-urls", c.ListenMetricsURLs, t.client, &s.metrics},
	} {
		for _, u := range l.urls {
			ln, err := listenURL(u, l.tls)
			if err != nil {
				return s, fmt.Errorf("--%s=%s: %w", l.flag, u.String(), err)
			}
			*l.into = append(*l.into, ln)
		}
	}
	return s, nil
}

func listenURL(u url.URL, c *tls.Config) (net.Listener, error) {
	network, address := "tcp", u.Host
	if u.Scheme == "unix" || u.Scheme == "unixs" {
		network, address = "unix", u.Host+u.Path
		if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err // a socket of an earlier run would be in the way
		}
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "https" || u.Scheme == "unixs" {
		ln = tls.NewListener(ln, c)
	}
	return ln, nil
}

// start begins to answer: peers first, then clients.
func (s *servers) start(n *Node) error {
	peerMux := http.NewServeMux()
	n.peers.Routes(peerMux)
	peerMux.HandleFunc("GET "+peer.PathMembers, n.serveMembers)
	options, err := n.rpcOptions()
	if err != nil {
		return err
	}
	api, err := rpc.New(n.host, options)
	if err != nil {
		return err
	}
	s.grpc = grpc.NewServer(append(api.ServerOptions(), grpc.Creds(newConnCredentials()))...)
	api.Register(s.grpc)
	handler := n.profiled(api.HTTPHandler())
	clientMux := http.NewServeMux()
	clientMux.Handle("/", handler)
	if n.c.EnableGRPCGateway {
		if s.gateway, err = api.NewGateway(s.grpc); err != nil {
			return err
		}
		clientMux.Handle("/v3/", s.gateway)
		clientMux.Handle("/v3beta/", s.gateway)
	}
	peerMux.Handle("GET /version", handler)
	for _, l := range s.peer {
		s.serveHTTP(l, peerMux)
	}
	for _, l := range s.metrics {
		s.serveHTTP(l, handler)
	}
	for _, l := range s.client {
		m := cmux.New(l)
		s.muxes = append(s.muxes, m)
		grpcListener := m.Match(cmux.HTTP2())
		s.run(func() error { return s.grpc.Serve(grpcListener) })
		s.serveHTTP(m.Match(cmux.Any()), clientMux)
		s.run(m.Serve)
	}
	return nil
}

func (n *Node) rpcOptions() (rpc.Options, error) {
	users, err := n.authOptions()
	return rpc.Options{
		Auth:                 users,
		MaxRequestBytes:      int(n.c.MaxRequestBytes),
		MaxTxnOps:            int(n.c.MaxTxnOps),
		QuotaBytes:           n.c.QuotaBackendBytes,
		MaxConcurrentStreams: n.c.MaxConcurrentStreams,
		KeepAliveMinTime:     n.c.KeepAliveMinTime,
		KeepAliveInterval:    n.c.KeepAliveInterval,
		KeepAliveTimeout:     n.c.KeepAliveTimeout,
		LeaderLossTimeout:    3 * time.Duration(n.c.ElectionMillis) * time.Millisecond,
		SnapshotDir:          n.path(tmpDir),
		Logger:               n.c.Logger,
	}, err
}

// profiled adds Go's profiles where they were asked for.
func (n *Node) profiled(h http.Handler) http.Handler {
	if !n.c.EnablePprof {
		return h
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.Handle("/", h)
	return mux
}

func (s *servers) serveHTTP(l net.Listener, h http.Handler) {
	server := &http.Server{
		Handler: withTLS(h), ConnContext: noteTLS, ReadHeaderTimeout: 10 * time.Second,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	s.https = append(s.https, server)
	s.run(func() error { return server.Serve(l) })
}

func (s *servers) run(serve func() error) {
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		err := serve()
		select {
		case <-s.stopping:
			return
		default:
		}
		select {
		case s.failed <- err:
		default: // an earlier failure stops the member already
		}
	}()
}

// drain takes no new connections and lets requests end, for a while; streams,
// which never end by themselves, are cut then.
func (s *servers) drain(limit time.Duration) {
	s.stopOnce.Do(func() { close(s.stopping) })
	if s.grpc == nil {
		return
	}
	s.closeGateway()
	drained := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(limit):
		s.grpc.Stop()
		<-drained
	}
}

func (s *servers) closeGateway() {
	if s.gateway != nil {
		_ = s.gateway.Close() // ends its own calls only
		s.gateway = nil
	}
}

// close ends every connection and waits for the servers.
func (s *servers) close() {
	s.stopOnce.Do(func() { close(s.stopping) })
	if s.grpc != nil {
		s.closeGateway()
		s.grpc.Stop()
	}
	for _, server := range s.https {
		_ = server.Close() // its listeners may be closed already
	}
	for _, m := range s.muxes {
		m.Close()
	}
	for _, ls := range [][]net.Listener{s.client, s.peer, s.metrics} {
		for _, l := range ls {
			_ = l.Close() // may be closed already
		}
	}
	s.running.Wait()
}

// membersBarrier is how long serveMembers waits for the newest membership.
const membersBarrier = 200 * time.Millisecond

// serveMembers answers a member that wants to join, or to start anew: with the
// newest membership where there is a leader, else with what is known here.
func (n *Node) serveMembers(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), membersBarrier)
	defer cancel()
	if err := n.host.ReadBarrier(ctx); err != nil {
		// Without a leader what is known here still tells who has started
		// before; a joiner that is not in it asks again.
		n.c.Logger.Debug("members told without a leader", "error", err)
	}
	if n.host.Machine().ClusterID() == 0 {
		http.Error(w, "this member is joining itself and knows nobody yet", http.StatusServiceUnavailable)
		return
	}
	info := peer.ClusterInfo{ClusterID: strconv.FormatUint(n.host.Status().ClusterID, 16)}
	for _, m := range n.host.Machine().Members() {
		info.Members = append(info.Members, peer.MemberInfo{
			ID: strconv.FormatUint(m.ID, 16), Name: m.Name, PeerURLs: m.PeerURLs, Learner: m.Learner,
		})
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(info); err != nil {
		n.c.Logger.Debug("members not sent", "error", err)
	}
}

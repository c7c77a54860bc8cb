package node

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/soheilhy/cmux"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"google.golang.org/grpc"

	"metastore.io/metastore/server/peer"
	"metastore.io/metastore/server/rpc"
)

// readHeaderTimeout is how long a client may take to send a request's header.
const readHeaderTimeout = 10 * time.Second

// servers are this member's listeners and who answers on them.
type servers struct {
	listeners
	// failed gets the first error of a server that should still run.
	failed chan error

	// grpc owns its connections. overHTTP answers calls that reached an HTTP
	// server, and can only be stopped at once.
	grpc, overHTTP *grpc.Server
	gateway        *rpc.Gateway
	clientHTTP     []*http.Server
	peerHTTP       []*http.Server
	muxes          []cmux.CMux
	acceptors      []*tlsAcceptor
	running        sync.WaitGroup
	// stopping is closed by drain: errors of closed listeners are no failure.
	stopping chan struct{}
	stopOnce sync.Once
}

// listen opens every listener, or none.
func listen(c *Config) (*servers, error) {
	s := &servers{failed: make(chan error, 1), stopping: make(chan struct{})}
	if err := s.open(c); err != nil {
		s.close()
		return s, err
	}
	return s, nil
}

// start begins to answer: peers first, then clients.
func (s *servers) start(n *Node, t tlsConfigs) error {
	options, err := n.rpcOptions()
	if err != nil {
		return err
	}
	api, err := rpc.New(n.host, options)
	if err != nil {
		return err
	}
	s.grpc = s.newGRPC(api)
	s.overHTTP = s.newGRPC(api)
	if n.c.EnableGRPCGateway {
		if s.gateway, err = api.NewGateway(s.grpc); err != nil {
			return err
		}
	}
	peers := http.NewServeMux()
	n.peers.Routes(peers)
	peers.HandleFunc("GET "+peer.PathMembers, n.serveMembers)
	peers.Handle("/version", api.HTTPHandler())
	peers.Handle(rpc.PathDowngrade, api.DowngradeHandler())
	for _, e := range s.peer {
		s.peerHTTP = append(s.peerHTTP, s.serveBoth(n.c, e, t.peer, &n.c.PeerTLS, peers)...)
	}
	for _, e := range s.metrics {
		s.clientHTTP = append(s.clientHTTP, s.serveBoth(n.c, e, t.metrics, &n.c.ClientTLS, api.MetricsHandler())...)
	}
	handler := n.clientHandler(api)
	for _, e := range s.client {
		s.serveClients(n.c, e, t, handler)
	}
	return nil
}

func (s *servers) newGRPC(api *rpc.Server) *grpc.Server {
	g := grpc.NewServer(append(api.ServerOptions(), grpc.Creds(newConnCredentials()))...)
	api.Register(g)
	return g
}

// clientHandler answers HTTP on the client URLs.
func (n *Node) clientHandler(api *rpc.Server) http.Handler {
	mux := http.NewServeMux()
	if n.serve.gateway != nil {
		mux.Handle("/v3/", n.serve.gateway)
		mux.Handle("/v3beta/", n.serve.gateway)
	}
	if n.c.EnablePprof || n.c.Debug {
		addProfiles(mux)
	}
	if n.c.Debug {
		addTraces(mux)
	}
	mux.Handle("/", api.HTTPHandler())
	return api.Guard(mux, rpc.GuardOptions{CORS: n.c.CORS, HostWhitelist: n.c.HostWhitelist})
}

// serveBoth answers HTTP on one address, with TLS, without, or both, told apart
// by how a connection begins. A certificate with names or addresses in it has to
// fit to where its bearer comes from.
func (s *servers) serveBoth(c *Config, e *endpoint, config *tls.Config, info *transport.TLSInfo, h http.Handler) []*http.Server {
	plain, secure := e.l, e.l
	if e.plain && e.secure {
		m := cmux.New(e.l)
		m.SetReadTimeout(handshakeTimeout)
		s.muxes = append(s.muxes, m)
		secure, plain = m.Match(cmux.TLS()), m.Match(cmux.Any())
		s.run(m.Serve)
	}
	var out []*http.Server
	if e.secure {
		a := newTLSAcceptor(secure, config, c.Logger, info.HandshakeFailure)
		a.check, a.http = originCheck(info), newConnQueue(secure.Addr())
		s.acceptors = append(s.acceptors, a)
		out = append(out, s.serveHTTP(c, a.http, h))
		s.run(a.serve)
	}
	if e.plain {
		out = append(out, s.serveHTTP(c, plain, h))
	}
	return out
}

// serveClients divides what comes to one address: without TLS by how it begins,
// with TLS by what the client says it can speak.
func (s *servers) serveClients(c *Config, e *endpoint, t tlsConfigs, h http.Handler) {
	withHTTP, withGRPC := e.httpOnly || !s.splitHTTP, !e.httpOnly
	traffic := map[[2]bool]string{{true, true}: "grpc+http", {false, true}: "http", {true, false}: "grpc"}[[2]bool{withGRPC, withHTTP}]
	l := e.l
	var plainHTTP, plainGRPC net.Listener
	if e.plain {
		m := cmux.New(l)
		s.muxes = append(s.muxes, m)
		if withGRPC {
			plainGRPC = m.Match(cmux.HTTP2())
		}
		if withHTTP {
			plainHTTP = m.Match(cmux.HTTP1())
		}
		if e.secure {
			l = m.Match(cmux.Any())
		}
		s.run(m.Serve)
		c.Logger.Info("serving client traffic insecurely; this is strongly discouraged!", "traffic", traffic, "address", e.l.Addr().String())
	}
	if plainGRPC != nil {
		s.run(func() error { return s.grpc.Serve(plainGRPC) })
	}
	if plainHTTP != nil {
		s.clientHTTP = append(s.clientHTTP, s.serveHTTP(c, plainHTTP, h))
	}
	if e.secure {
		s.serveSecure(c, l, t, h, withGRPC, withHTTP)
		c.Logger.Info("serving client traffic securely", "traffic", traffic, "address", e.l.Addr().String())
	}
}

func (s *servers) serveSecure(c *Config, l net.Listener, t tlsConfigs, h http.Handler, withGRPC, withHTTP bool) {
	a := newTLSAcceptor(l, t.client, c.Logger, c.ClientTLS.HandshakeFailure)
	s.acceptors = append(s.acceptors, a)
	if withGRPC {
		q := newConnQueue(l.Addr())
		a.grpc = q
		s.run(func() error { return s.grpc.Serve(q) })
	}
	if withHTTP {
		a.http = newConnQueue(l.Addr())
		if withGRPC {
			h = grpcOrHTTP(s.overHTTP, h)
		}
		s.clientHTTP = append(s.clientHTTP, s.serveHTTP(c, a.http, h))
	}
	s.run(a.serve)
}

// grpcOrHTTP hands gRPC's calls to its server.
func grpcOrHTTP(g *grpc.Server, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			g.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (s *servers) serveHTTP(c *Config, l net.Listener, h http.Handler) *http.Server {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout,
		ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug), // a client's mistakes
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: int(min(c.MaxConcurrentStreams, math.MaxInt32))},
	}
	s.run(func() error { return server.Serve(l) })
	return server
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

// drain takes no new connections of clients and lets requests end, for a while;
// streams, which never end by themselves, are cut then.
func (s *servers) drain(limit time.Duration) {
	s.stopOnce.Do(func() { close(s.stopping) })
	if s.grpc == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var drained sync.WaitGroup
	for _, server := range s.clientHTTP {
		drained.Add(1)
		go func() {
			defer drained.Done()
			_ = server.Shutdown(ctx) // what goes on is cut below
		}()
	}
	graceful := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(graceful)
	}()
	select {
	case <-graceful:
	case <-ctx.Done():
		s.grpc.Stop()
		<-graceful
	}
	drained.Wait()
	s.overHTTP.Stop()
	s.closeGateway()
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
	s.closeGateway()
	if s.grpc != nil {
		s.grpc.Stop()
		s.overHTTP.Stop()
	}
	for _, servers := range [][]*http.Server{s.clientHTTP, s.peerHTTP} {
		for _, server := range servers {
			_ = server.Close() // its listeners may be closed already
		}
	}
	for _, a := range s.acceptors {
		a.close()
	}
	for _, m := range s.muxes {
		m.Close()
	}
	s.listeners.close()
	s.running.Wait()
}

func (n *Node) rpcOptions() (rpc.Options, error) {
	users, err := n.authOptions()
	o := rpc.Options{
		Auth:                 users,
		MaxRequestBytes:      int(n.c.MaxRequestBytes),
		MaxTxnOps:            int(n.c.MaxTxnOps),
		QuotaBytes:           n.c.QuotaBackendBytes,
		RequestsBytes:        n.c.requestsBytes(),
		ResponsesBytes:       n.c.MemoryBytes / responsesShare,
		MaxConcurrentStreams: n.c.MaxConcurrentStreams,
		KeepAliveMinTime:     n.c.KeepAliveMinTime,
		WarnRequestAfter:     n.c.WarnRequestAfter,
		StopOnDefrag:         n.c.Features.Enabled(StopGRPCServiceOnDefrag),
		Histograms:           n.c.Metrics == "extensive",
		MinLeaseSeconds:      n.c.minLeaseSeconds(),
		LeaderLossTimeout:    3 * time.Duration(n.c.ElectionMillis) * time.Millisecond,
		SnapshotDir:          n.path(tmpDir),
		Settings:             n.c.settings(),
		Registry:             n.metrics.registry,
		Logger:               n.c.Logger,
	}
	if o.KeepAliveMinTime <= 0 {
		o.KeepAliveMinTime = pingsWithoutRule
	}
	if n.c.KeepAliveInterval > 0 && n.c.KeepAliveTimeout > 0 {
		o.KeepAliveInterval, o.KeepAliveTimeout = n.c.KeepAliveInterval, n.c.KeepAliveTimeout
	}
	return o, err
}

// minLeaseSeconds is etcd's: a lease has to outlive the election of a new leader
// by half, in whole heartbeats and then whole seconds.
func (c *Config) minLeaseSeconds() int64 {
	ticks := 3 * (c.ElectionMillis / c.HeartbeatMillis) / 2
	return (int64(ticks)*int64(c.HeartbeatMillis) + 999) / 1000
}

// pingsWithoutRule is how often clients may ping where no rule is given: gRPC's
// own default, as with etcd.
const pingsWithoutRule = 5 * time.Minute

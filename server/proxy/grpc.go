package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/soheilhy/cmux"
	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// GRPC is a proxy that speaks etcd's API on both sides.
type GRPC struct {
	ListenAddr  string
	MetricsAddr string // a URL; empty for none
	Discovery   Discovery
	// Endpoints count where discovery finds none.
	Endpoints        []string
	AutoSyncInterval time.Duration // 0 is never
	// Towards the members.
	DialKeepAliveTime, DialKeepAliveTimeout time.Duration
	PermitWithoutStream                     bool
	MaxSendBytes, MaxRecvBytes              int
	Cert, Key, CACert                       string
	InsecureSkipTLSVerify                   bool
	// Towards the clients.
	KeepAliveMinTime, KeepAliveInterval, KeepAliveTimeout time.Duration
	MaxConcurrentStreams                                  uint32
	ListenTLS                                             transport.TLSInfo
	ListenCipherSuites                                    []string
	ListenTLSMin, ListenTLSMax                            string
	AutoTLS                                               bool
	SelfSignedCertYears                                   uint
	DataDir                                               string // holds what AutoTLS makes
	// AdvertiseClientURL is where this proxy is found, ResolverPrefix the key
	// below which proxies tell that, for ResolverTTL seconds.
	AdvertiseClientURL, ResolverPrefix string
	ResolverTTL                        int

	// Namespace goes before every key, LeasingPrefix before those that this
	// proxy holds leases of, so that it can answer reads by itself.
	Namespace, LeasingPrefix          string
	SerializableOrdering, LogRequests bool
	EnablePprof                       bool
}

// Validate says what is wrong.
func (p *GRPC) Validate() error {
	switch {
	case p.ResolverPrefix != "" && p.ResolverTTL < 1:
		return fmt.Errorf("invalid resolver-ttl %d", p.ResolverTTL)
	case p.ResolverPrefix == "" && p.ResolverTTL > 0:
		return fmt.Errorf("invalid resolver-prefix %q", p.ResolverPrefix)
	case p.ResolverPrefix != "" && p.ResolverTTL > 0 && p.AdvertiseClientURL == "":
		return fmt.Errorf("invalid advertise-client-url %q", p.AdvertiseClientURL)
	case p.AutoTLS && p.SelfSignedCertYears == 0:
		return errors.New("selfSignedCertValidity is invalid,it should be greater than 0")
	}
	lowest, err := tlsutil.GetTLSVersion(p.ListenTLSMin)
	if err != nil {
		return fmt.Errorf("tls-min-version is invalid: %w", err)
	}
	highest, err := tlsutil.GetTLSVersion(p.ListenTLSMax)
	if err != nil {
		return fmt.Errorf("tls-max-version is invalid: %w", err)
	}
	if highest != 0 && lowest > highest {
		return fmt.Errorf("min version (%s) is greater than max version (%s)", p.ListenTLSMin, p.ListenTLSMax)
	}
	if v, _ := tlsutil.GetTLSVersion(string(tlsutil.TLSVersion13)); lowest == v && len(p.ListenCipherSuites) > 0 {
		return errors.New("cipher suites cannot be configured when only TLS1.3 is enabled")
	}
	p.ListenTLS.MinVersion, p.ListenTLS.MaxVersion = lowest, highest
	p.ListenTLS.CipherSuites, err = tlsutil.GetCipherSuites(p.ListenCipherSuites)
	return err
}

// Run answers clients until the context ends.
func (p *GRPC) Run(ctx context.Context, lg *zap.Logger) error {
	if err := p.Validate(); err != nil {
		return err
	}
	p.Discovery.TrustedCAFile = p.CACert
	listenTLS, err := p.listenTLS(lg)
	if err != nil {
		return err
	}
	l, err := p.listen(lg, listenTLS)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }() // also closed by who serves on it
	client, err := p.newClient(lg)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // nothing of it is kept
	// etcd's proxy has its own metrics there, too.
	metrics := grpcprom.NewServerMetrics()
	if err := prometheus.DefaultRegisterer.Register(metrics); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	defer prometheus.DefaultRegisterer.Unregister(metrics)
	server, err := p.newServer(ctx, lg, metrics, client)
	if err != nil {
		return err
	}
	return p.serve(ctx, lg, l, listenTLS, client, server)
}

// serve lets gRPC begin first: the client that the proxy checks its own health
// with connects to it.
func (p *GRPC) serve(ctx context.Context, lg *zap.Logger, l net.Listener, listenTLS *transport.TLSInfo, client *clientv3.Client, server *grpc.Server) error {
	failed := make(chan error, 4)
	m := cmux.New(l)
	onGRPC := m.Match(cmux.HTTP2())
	onHTTP := m.Match(cmux.Any())
	var running sync.WaitGroup
	defer running.Wait()
	defer m.Close()
	run := func(serve func() error) { running.Go(func() { failed <- serve() }) }
	run(func() error { return server.Serve(onGRPC) })
	run(m.Serve)
	defer server.Stop()

	self, err := p.newSelfClient(lg, listenTLS)
	if err != nil {
		return err
	}
	if self != nil {
		defer func() { _ = self.Close() }() // nothing of it is kept
	}
	members, err := p.httpClient()
	if err != nil {
		return err
	}
	h := &handlers{lg: lg, client: client, self: self, members: members}
	web := &http.Server{Handler: h.all(p.EnablePprof), ReadHeaderTimeout: readHeaderTimeout}
	defer func() { _ = web.Close() }() // ends what is under way
	run(func() error { return web.Serve(onHTTP) })
	if p.MetricsAddr != "" {
		ml, err := p.listenMetrics(listenTLS)
		if err != nil {
			return err
		}
		lg.Info("gRPC proxy listening for metrics", zap.String("address", p.MetricsAddr))
		metrics := &http.Server{Handler: h.checks(), ReadHeaderTimeout: readHeaderTimeout}
		defer func() { _ = metrics.Close() }() // likewise
		run(func() error { return metrics.Serve(ml) })
	}
	lg.Info("started gRPC proxy", zap.String("address", p.ListenAddr))
	select {
	case <-ctx.Done():
		lg.Info("stopping gRPC proxy", zap.String("address", p.ListenAddr))
		return nil
	case err := <-failed:
		return fmt.Errorf("gRPC proxy: %w", err)
	}
}

const readHeaderTimeout = 5 * time.Minute

// listenTLS is how clients are met; nil is without TLS.
func (p *GRPC) listenTLS(lg *zap.Logger) (*transport.TLSInfo, error) {
	t := p.ListenTLS
	if t.CertFile == "" && t.KeyFile == "" && t.TrustedCAFile == "" {
		if !p.AutoTLS {
			return nil, nil
		}
		made, err := transport.SelfCert(lg, filepath.Join(p.DataDir, "fixtures", "proxy"), []string{"https://" + p.ListenAddr}, p.SelfSignedCertYears)
		if err != nil {
			return nil, fmt.Errorf("make a certificate: %w", err)
		}
		made.CipherSuites, made.MinVersion, made.MaxVersion, made.CRLFile = t.CipherSuites, t.MinVersion, t.MaxVersion, t.CRLFile
		t = made
	}
	lg.Info("gRPC proxy server TLS", zap.String("tls-info", t.String()))
	return &t, nil
}

func (p *GRPC) listen(lg *zap.Logger, t *transport.TLSInfo) (net.Listener, error) {
	l, err := net.Listen("tcp", p.ListenAddr)
	if err != nil {
		return nil, err
	}
	if l, err = transport.NewKeepAliveListener(l, "tcp", nil); err == nil && t != nil {
		l, err = transport.NewTLSListener(l, t)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", p.ListenAddr, err)
	}
	lg.Info("listening for gRPC proxy client requests", zap.String("address", p.ListenAddr))
	return l, nil
}

func (p *GRPC) listenMetrics(t *transport.TLSInfo) (net.Listener, error) {
	u, err := url.Parse(p.MetricsAddr)
	if err != nil {
		return nil, fmt.Errorf("cannot parse %q: %w", p.MetricsAddr, err)
	}
	return transport.NewListener(u.Host, u.Scheme, t)
}

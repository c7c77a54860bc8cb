package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const dialTimeout = 5 * time.Second

// newClient connects to the members; tokens of users pass through it.
func (p *GRPC) newClient(lg *zap.Logger) (*clientv3.Client, error) {
	endpoints, _, err := p.Discovery.find(lg)
	if err != nil {
		return nil, err
	}
	if len(endpoints) == 0 {
		endpoints = p.Endpoints
	}
	c := clientv3.Config{
		Endpoints: endpoints, AutoSyncInterval: p.AutoSyncInterval, DialTimeout: dialTimeout,
		MaxCallSendMsgSize: max(p.MaxSendBytes, 0), MaxCallRecvMsgSize: max(p.MaxRecvBytes, 0),
		DialKeepAliveTime: p.DialKeepAliveTime, DialKeepAliveTimeout: p.DialKeepAliveTimeout,
		PermitWithoutStream: p.PermitWithoutStream, Logger: lg.Named("client"),
		DialOptions: []grpc.DialOption{
			grpc.WithUnaryInterceptor(grpcproxy.AuthUnaryClientInterceptor),
			grpc.WithStreamInterceptor(grpcproxy.AuthStreamClientInterceptor),
		},
	}
	if c.TLS, err = p.memberTLS(lg); err != nil {
		return nil, err
	}
	return clientv3.New(c)
}

// memberTLS is nil without TLS. The proxy's own certificate must not name a
// user: whatever passes through would be that user's.
func (p *GRPC) memberTLS(lg *zap.Logger) (*tls.Config, error) {
	if p.Cert == "" && p.Key == "" && p.CACert == "" && !p.InsecureSkipTLSVerify {
		return nil, nil
	}
	info := transport.TLSInfo{TrustedCAFile: p.CACert, CertFile: p.Cert, KeyFile: p.Key, EmptyCN: p.Cert != ""}
	c, err := info.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("TLS towards the members: %w", err)
	}
	if c.InsecureSkipVerify = p.InsecureSkipTLSVerify; c.InsecureSkipVerify {
		lg.Warn("--insecure-skip-tls-verify was given, this grpc proxy process skips authentication of etcd server TLS certificates. This option should be enabled only for testing purposes.")
	}
	return c, nil
}

// newSelfClient connects to the proxy itself, to check its health; nil where it
// does not know its address.
func (p *GRPC) newSelfClient(lg *zap.Logger, listenTLS *transport.TLSInfo) (*clientv3.Client, error) {
	if p.AdvertiseClientURL == "" {
		return nil, nil
	}
	c := clientv3.Config{Endpoints: []string{p.AdvertiseClientURL}, DialTimeout: dialTimeout, Logger: lg.Named("client")}
	if listenTLS != nil {
		var err error
		if c.TLS, err = listenTLS.ClientConfig(); err != nil {
			return nil, fmt.Errorf("TLS towards the proxy itself: %w", err)
		}
	}
	return clientv3.New(c)
}

// httpClient asks the members for their metrics.
func (p *GRPC) httpClient() (*http.Client, error) {
	t := &http.Transport{}
	switch {
	case p.CACert != "" && p.Cert != "" && p.Key != "":
		ca, err := os.ReadFile(p.CACert)
		if err != nil {
			return nil, err
		}
		pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		t.TLSClientConfig = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12}
	case p.InsecureSkipTLSVerify:
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: t}, nil
}

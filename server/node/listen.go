package node

import (
	"fmt"
	"net"
	"net/url"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/pkg/v3/runtime"
)

// reservedFiles are the file descriptors that clients' connections leave to all
// else: log, engine, peers.
const reservedFiles = 150

// listeners are the open ones, by whom they serve.
type listeners struct {
	peer, metrics []net.Listener
	client        []*endpoint
	// splitHTTP: some of the client endpoints are for HTTP only, the others for
	// gRPC only.
	splitHTTP bool
}

// endpoint is one address for clients, which may speak TLS or not.
type endpoint struct {
	address                 string
	l                       net.Listener
	plain, secure, httpOnly bool
}

// open opens every listener. After an error those that are open are closed by
// close.
func (ls *listeners) open(c *Config) error {
	for _, u := range c.ListenPeerURLs {
		l, err := listenURL(c, u, &c.PeerTLS)
		if err != nil {
			return fmt.Errorf("--listen-peer-urls=%s: %w", u.String(), err)
		}
		ls.peer = append(ls.peer, l)
	}
	for _, u := range c.ListenClientURLs {
		if err := ls.openClient(c, u, false); err != nil {
			return fmt.Errorf("--listen-client-urls=%s: %w", u.String(), err)
		}
	}
	for _, u := range c.ListenClientHTTPURLs {
		ls.splitHTTP = true
		if err := ls.openClient(c, u, true); err != nil {
			return fmt.Errorf("--listen-client-http-urls=%s: %w", u.String(), err)
		}
	}
	for _, u := range c.ListenMetricsURLs {
		l, err := listenURL(c, u, &c.ClientTLS)
		if err != nil {
			return fmt.Errorf("--listen-metrics-urls=%s: %w", u.String(), err)
		}
		ls.metrics = append(ls.metrics, l)
	}
	return nil
}

// listenURL listens with TLS where the URL says so. A client's certificate with
// names or addresses in it has to fit to where the client comes from.
func listenURL(c *Config, u url.URL, info *transport.TLSInfo) (net.Listener, error) {
	l, err := transport.NewListenerWithOpts(address(u), u.Scheme, transport.WithTLSInfo(info), transport.WithSocketOpts(&c.Socket))
	if err != nil || u.Scheme != "unixs" {
		return l, err
	}
	return transport.NewTLSListener(l, info)
}

func (ls *listeners) openClient(c *Config, u url.URL, httpOnly bool) error {
	e := ls.endpoint(address(u))
	if e == nil {
		l, err := transport.NewListenerWithOpts(address(u), u.Scheme, transport.WithSocketOpts(&c.Socket), transport.WithSkipTLSInfoCheck(true))
		if err != nil {
			return err
		}
		e = &endpoint{address: address(u), l: l, httpOnly: httpOnly}
		ls.client = append(ls.client, e)
		if err := e.limit(); err != nil {
			return err
		}
	}
	if isTLS(u) {
		e.secure = true
	} else {
		e.plain = true
		c.warnPlain(u)
	}
	return nil
}

func (ls *listeners) endpoint(address string) *endpoint {
	for _, e := range ls.client {
		if e.address == address {
			return e
		}
	}
	return nil
}

// limit keeps clients from taking all file descriptors.
func (e *endpoint) limit() error {
	n, err := runtime.FDLimit()
	if err != nil {
		return nil // no limit is known here
	}
	if n <= reservedFiles {
		return fmt.Errorf("this process may open %d files: more than %d are needed", n, reservedFiles)
	}
	e.l = transport.LimitListener(e.l, int(min(n-reservedFiles, 1<<30)))
	return nil
}

// warnPlain tells when certificates are given that an address does not use.
func (c *Config) warnPlain(u url.URL) {
	if !c.ClientTLS.Empty() {
		c.Logger.Warn("scheme is http or unix while key and cert files are present; ignoring key and cert files", "client-url", u.String())
	}
	if c.ClientTLS.ClientCertAuth {
		c.Logger.Warn("scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL", "client-url", u.String())
	}
}

func (ls *listeners) close() {
	for _, l := range append(ls.peer, ls.metrics...) {
		_ = l.Close() // may be closed already
	}
	for _, e := range ls.client {
		_ = e.l.Close() // may be closed already
	}
}

package node

import (
	"fmt"
	"net"
	"net/url"
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/pkg/v3/runtime"
)

// reservedFiles are the file descriptors that clients' connections leave to all
// else: log, engine, peers.
const reservedFiles = 150

// listeners are the open ones, by whom they serve.
type listeners struct {
	peer, metrics, client []*endpoint
	// splitHTTP: some of the client endpoints are for HTTP only, the others for
	// gRPC only.
	splitHTTP bool
}

// endpoint is one address, which may speak TLS, or not, or both.
type endpoint struct {
	address                 string
	l                       net.Listener
	plain, secure, httpOnly bool
}

// open opens every listener. After an error those that are open are closed by
// close.
func (ls *listeners) open(c *Config) error {
	for _, u := range c.ListenPeerURLs {
		if _, err := openEndpoint(c, &ls.peer, u); err != nil {
			return fmt.Errorf("--listen-peer-urls=%s: %w", u.String(), err)
		}
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
		if _, err := openEndpoint(c, &ls.metrics, u); err != nil {
			return fmt.Errorf("--listen-metrics-urls=%s: %w", u.String(), err)
		}
	}
	return nil
}

// openEndpoint listens at a URL's address, unless another URL has done so
// already: one address may serve with TLS and without.
func openEndpoint(c *Config, all *[]*endpoint, u url.URL) (opened bool, err error) {
	i := slices.IndexFunc(*all, func(e *endpoint) bool { return e.address == address(u) })
	if i < 0 {
		l, err := transport.NewListenerWithOpts(address(u), u.Scheme, transport.WithSocketOpts(&c.Socket), transport.WithSkipTLSInfoCheck(true))
		if err != nil {
			return false, err
		}
		i, opened = len(*all), true
		*all = append(*all, &endpoint{address: address(u), l: l})
	}
	if isTLS(u) {
		(*all)[i].secure = true
	} else {
		(*all)[i].plain = true
	}
	return opened, nil
}

func (ls *listeners) openClient(c *Config, u url.URL, httpOnly bool) error {
	opened, err := openEndpoint(c, &ls.client, u)
	if err != nil {
		return err
	}
	if !isTLS(u) {
		c.warnPlain(u)
	}
	if !opened {
		return nil
	}
	e := ls.client[len(ls.client)-1]
	e.httpOnly = httpOnly
	return e.limit()
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
	for _, e := range slices.Concat(ls.peer, ls.metrics, ls.client) {
		_ = e.l.Close() // may be closed already
	}
}

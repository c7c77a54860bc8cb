package node

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"metastore.io/metastore/server/peer"
)

// bundle is a file of certificate authorities, read anew whenever somebody has
// to be verified, so that authorities come and go without a restart. A file
// that cannot be read or holds none leaves those that were there before: a
// mistake must not cut off members that trust each other.
type bundle struct {
	file string
	log  *slog.Logger

	mu   sync.Mutex
	text []byte
	pool *x509.CertPool
}

// newBundle reads the file for the first time; nil without a file.
func newBundle(file string, log *slog.Logger) (*bundle, error) {
	if file == "" {
		return nil, nil
	}
	b := &bundle{file: file, log: log}
	return b, b.read()
}

func (b *bundle) read() error {
	text, err := os.ReadFile(b.file)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pool != nil && bytes.Equal(text, b.text) {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s: %w", b.file, errors.New("no certificate in PEM"))
	}
	b.text, b.pool = text, pool
	return nil
}

// now are the authorities of this moment.
func (b *bundle) now() *x509.CertPool {
	if err := b.read(); err != nil {
		b.log.Warn("trusted authorities not read; those from before hold", "file", b.file, "error", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pool
}

// serverTLS is how connections are accepted: the certificate is read at each
// handshake by the config itself, the authorities are here.
func serverTLS(info *transport.TLSInfo, log *slog.Logger) (*tls.Config, error) {
	c, err := info.ServerConfig()
	if err != nil {
		return nil, err
	}
	c.NextProtos = []string{protoHTTP2, protoHTTP1}
	info.ConfigureCRLVerification(c)
	trusted, err := newBundle(info.TrustedCAFile, log)
	if err != nil || trusted == nil {
		return c, err
	}
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := c.Clone()
		now.GetConfigForClient, now.ClientCAs = nil, trusted.now()
		return now, nil
	}
	return c, nil
}

// clientTLS is how peers are called.
func clientTLS(info *transport.TLSInfo, log *slog.Logger) (peer.TLS, error) {
	c, err := info.ClientConfig()
	if err != nil {
		return nil, err
	}
	trusted, err := newBundle(info.TrustedCAFile, log)
	if err != nil {
		return nil, err
	}
	return func() *tls.Config {
		now := c.Clone()
		if trusted != nil {
			now.RootCAs = trusted.now()
		}
		return now
	}, nil
}

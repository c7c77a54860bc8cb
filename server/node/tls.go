package node

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"path"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"
)

// tlsConfigs are the three ways in which this member speaks TLS; nil where it
// does not.
type tlsConfigs struct {
	client, peerServer, peerClient *tls.Config
}

// selfSignedYears is how long certificates of auto TLS hold.
const selfSignedYears = 1

func newTLS(c *Config) (tlsConfigs, error) {
	var t tlsConfigs
	if err := selfSign(&c.ClientTLS, c.ClientAutoTLS, c.ListenClientURLs, path.Join(c.DataDir, fixturesDir, "client")); err != nil {
		return t, fmt.Errorf("--auto-tls: %w", err)
	}
	if err := selfSign(&c.PeerTLS, c.PeerAutoTLS, c.ListenPeerURLs, path.Join(c.DataDir, fixturesDir, "peer")); err != nil {
		return t, fmt.Errorf("--peer-auto-tls: %w", err)
	}
	var err error
	if usesTLS(c.ListenClientURLs) || usesTLS(c.ListenMetricsURLs) {
		if t.client, err = c.ClientTLS.ServerConfig(); err != nil {
			return t, fmt.Errorf("--cert-file=%s, --key-file=%s: %w", c.ClientTLS.CertFile, c.ClientTLS.KeyFile, err)
		}
		t.client.NextProtos = []string{"h2", "http/1.1"}
	}
	if usesTLS(c.ListenPeerURLs) {
		if t.peerServer, err = c.PeerTLS.ServerConfig(); err != nil {
			return t, fmt.Errorf("--peer-cert-file=%s, --peer-key-file=%s: %w", c.PeerTLS.CertFile, c.PeerTLS.KeyFile, err)
		}
		t.peerServer.NextProtos = []string{"http/1.1"}
	}
	if !c.PeerTLS.Empty() || c.PeerTLS.TrustedCAFile != "" {
		if t.peerClient, err = c.PeerTLS.ClientConfig(); err != nil {
			return t, fmt.Errorf("--peer-trusted-ca-file=%s: %w", c.PeerTLS.TrustedCAFile, err)
		}
	}
	return t, nil
}

func usesTLS(urls []url.URL) bool {
	for _, u := range urls {
		if u.Scheme == "https" || u.Scheme == "unixs" {
			return true
		}
	}
	return false
}

// selfSign makes a certificate where auto TLS asks for one and none is given.
func selfSign(info *transport.TLSInfo, auto bool, urls []url.URL, dir string) error {
	if !auto || !info.Empty() {
		return nil
	}
	hosts := make([]string, len(urls))
	for i, u := range urls {
		hosts[i] = u.Host
	}
	made, err := transport.SelfCert(zap.NewNop(), dir, hosts, selfSignedYears)
	if err != nil {
		return err
	}
	*info = made
	return nil
}

package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path"
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"

	"metastore.io/metastore/server/peer"
)

// tlsConfigs are how this member speaks TLS to clients and to peers, who call or
// are called; nil where it does not. Certificates and the authorities that vouch
// for the other side's are read anew at each handshake.
type tlsConfigs struct {
	client, metrics, peer *tls.Config
	peerClient            peer.TLS
}

func newTLS(c *Config) (tlsConfigs, error) {
	var t tlsConfigs
	if err := c.completeTLS(); err != nil {
		return t, err
	}
	for _, end := range []struct {
		urls   []url.URL
		prefix string
		info   *transport.TLSInfo
		into   **tls.Config
	}{
		{slices.Concat(c.ListenClientURLs, c.ListenClientHTTPURLs), "", &c.ClientTLS, &t.client},
		{c.ListenMetricsURLs, "", &c.ClientTLS, &t.metrics},
		{c.ListenPeerURLs, "peer-", &c.PeerTLS, &t.peer},
	} {
		if !usesTLS(end.urls) {
			continue
		}
		var err error
		if *end.into, err = serverTLS(end.info, c.Logger); err != nil {
			return t, badFiles(end.prefix, end.info, err)
		}
	}
	if !c.PeerTLS.Empty() || c.PeerTLS.TrustedCAFile != "" {
		var err error
		if t.peerClient, err = clientTLS(&c.PeerTLS, c.Logger); err != nil {
			return t, badFiles("peer-", &c.PeerTLS, err)
		}
	}
	return t, nil
}

// completeTLS puts what clients and peers have in common into both.
func (c *Config) completeTLS() error {
	if err := c.selfSign("auto-tls", &c.ClientTLS, c.ClientAutoTLS, slices.Concat(c.ListenClientURLs, c.ListenClientHTTPURLs), "client"); err != nil {
		return err
	}
	if err := c.selfSign("peer-auto-tls", &c.PeerTLS, c.PeerAutoTLS, c.ListenPeerURLs, "peer"); err != nil {
		return err
	}
	if c.Discovery.SRV != "" && c.PeerTLS.TrustedCAFile == "" {
		c.PeerTLS.ServerName = c.Discovery.SRV // the domain vouches for its members
	}
	suites, err1 := tlsutil.GetCipherSuites(c.CipherSuites)
	lowest, err2 := tlsutil.GetTLSVersion(c.TLSMinVersion)
	highest, err3 := tlsutil.GetTLSVersion(c.TLSMaxVersion)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err // Validate has told before
	}
	for end, info := range map[string]*transport.TLSInfo{"client": &c.ClientTLS, "peer": &c.PeerTLS} {
		info.CipherSuites, info.MinVersion, info.MaxVersion = suites, lowest, highest
		info.HandshakeFailure = rejected(c.Logger, end)
	}
	return nil
}

func badFiles(prefix string, info *transport.TLSInfo, err error) error {
	s := fmt.Sprintf("--%scert-file=%s, --%skey-file=%s", prefix, info.CertFile, prefix, info.KeyFile)
	if info.TrustedCAFile != "" {
		s += fmt.Sprintf(", --%strusted-ca-file=%s", prefix, info.TrustedCAFile)
	}
	if info.ClientCertFile != "" || info.ClientKeyFile != "" {
		s += fmt.Sprintf(", --%sclient-cert-file=%s, --%sclient-key-file=%s", prefix, info.ClientCertFile, prefix, info.ClientKeyFile)
	}
	return fmt.Errorf("%s: %w", s, err)
}

// selfSign makes a certificate where auto TLS asks for one and none is given.
func (c *Config) selfSign(flag string, info *transport.TLSInfo, auto bool, urls []url.URL, dir string) error {
	if !auto {
		return nil
	}
	if !info.Empty() {
		c.Logger.Warn("automatic TLS is not used since certificates are given", "flag", flag)
		return nil
	}
	hosts := make([]string, len(urls))
	for i, u := range urls {
		hosts[i] = u.Host
	}
	lg := info.Logger
	if lg == nil {
		lg = zap.NewNop()
	}
	made, err := transport.SelfCert(lg, path.Join(c.DataDir, fixturesDir, dir), hosts, c.SelfSignedYears)
	if err != nil {
		return fmt.Errorf("--%s: %w", flag, err)
	}
	*info = made
	return nil
}

// rejected logs handshakes that failed, and whose they were.
func rejected(log *slog.Logger, end string) func(*tls.Conn, error) {
	return func(conn *tls.Conn, err error) {
		tell := log.Warn
		if errors.Is(err, io.EOF) {
			tell = log.Debug // who only looks whether the port answers
		}
		st := conn.ConnectionState()
		attrs := []any{"remote-addr", conn.RemoteAddr().String(), "server-name", st.ServerName}
		if len(st.PeerCertificates) > 0 {
			cert := st.PeerCertificates[0]
			ips := make([]string, len(cert.IPAddresses))
			for i, ip := range cert.IPAddresses {
				ips[i] = ip.String()
			}
			attrs = append(attrs, "ip-addresses", ips, "dns-names", cert.DNSNames)
		}
		tell("rejected connection on "+end+" endpoint", append(attrs, "error", err)...)
	}
}

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
)

// tlsConfigs are how this member speaks TLS to clients, and to peers that it
// calls; nil where it does not. Certificates are read anew at each handshake.
// Peers that call are accepted by a listener of transport, which also compares
// their certificates with where they come from.
type tlsConfigs struct {
	client, peerClient *tls.Config
}

func newTLS(c *Config) (tlsConfigs, error) {
	var t tlsConfigs
	if err := c.completeTLS(); err != nil {
		return t, err
	}
	var err error
	if usesTLS(slices.Concat(c.ListenClientURLs, c.ListenClientHTTPURLs)) {
		if t.client, err = c.ClientTLS.ServerConfig(); err != nil {
			return t, badFiles("", &c.ClientTLS, err)
		}
		t.client.NextProtos = []string{protoHTTP2, protoHTTP1}
		c.ClientTLS.ConfigureCRLVerification(t.client)
	}
	if usesTLS(c.ListenPeerURLs) {
		if _, err = c.PeerTLS.ServerConfig(); err != nil {
			return t, badFiles("peer-", &c.PeerTLS, err)
		}
	}
	if !c.PeerTLS.Empty() || c.PeerTLS.TrustedCAFile != "" {
		if t.peerClient, err = c.PeerTLS.ClientConfig(); err != nil {
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

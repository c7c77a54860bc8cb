package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// logBuffer keeps what a member logs.
type logBuffer struct {
	mu    sync.Mutex
	b     strings.Builder
	wrote chan struct{} // closed and replaced by each write
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.wrote)
	l.wrote = make(chan struct{})
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wait returns when all texts are in what was logged after the first bytes: a
// client may hear of its refusal before that is logged.
func (l *logBuffer) wait(t *testing.T, after int, texts ...string) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		l.mu.Lock()
		log, wrote := l.b.String()[after:], l.wrote
		l.mu.Unlock()
		missing := slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return strings.Contains(log, s) })
		if len(missing) == 0 {
			return
		}
		select {
		case <-wrote:
		case <-limit:
			t.Fatalf("the log says %s, and not %q", log, missing)
		}
	}
}

// testMember is a member in this process.
type testMember struct {
	*Node
	log    *logBuffer
	client string // host:port
}

func mustURL(t *testing.T, s string) url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return *u
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func memberConfig(t *testing.T) (Config, *logBuffer) {
	t.Helper()
	log := &logBuffer{wrote: make(chan struct{})}
	c := DefaultConfig()
	c.Name, c.DataDir, c.StorageEngine = "m", filepath.Join(t.TempDir(), "m"), EngineMemory
	c.Logger = slog.New(slog.NewTextHandler(log, nil))
	peer := mustURL(t, "http://"+freeAddress(t))
	c.ListenPeerURLs, c.AdvertisePeerURLs = []url.URL{peer}, []url.URL{peer}
	return c, log
}

func startMember(t *testing.T, change func(*Config)) *testMember {
	t.Helper()
	c, log := memberConfig(t)
	m := &testMember{log: log, client: freeAddress(t)}
	u := mustURL(t, "https://"+m.client)
	c.ListenClientURLs, c.AdvertiseClientURLs = []url.URL{u}, []url.URL{u}
	change(&c)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	m.Node = n
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-n.Ready():
	case <-ctx.Done():
		t.Fatalf("not ready: %s", log)
	}
	return m
}

// getHTTP asks for the version over HTTP/1 or HTTP/2 and tells which it was.
func (m *testMember) getHTTP(t *testing.T, c *tls.Config, http2 bool) (proto string, err error) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: c.Clone(), ForceAttemptHTTP2: http2}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	resp, err := client.Get("https://" + m.client + "/version")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "etcdserver")) {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return resp.Proto, err
}

// get reads a key over gRPC; it does not try again.
func (m *testMember) get(t *testing.T, c *tls.Config) error {
	t.Helper()
	conn, err := grpc.NewClient(m.client, grpc.WithTransportCredentials(credentials.NewTLS(c.Clone())))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k"), Serializable: true})
	return err
}

// handshake tells whether a client gets in: with TLS 1.3 a refusal comes with
// the first answer only.
func (m *testMember) handshake(t *testing.T, c *tls.Config) error {
	t.Helper()
	_, err := m.getHTTP(t, c, false)
	return err
}

// gRPC and HTTP of both versions are served at one address.
func TestTLSServesAll(t *testing.T) {
	a := newAuthority(t, "ca")
	server := a.issue("server", "server", nil)
	m := startMember(t, func(c *Config) {
		c.ClientTLS.CertFile, c.ClientTLS.KeyFile = server.cert, server.key
	})
	client := a.client(nil)
	if err := m.get(t, client); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	for _, http2 := range []bool{false, true} {
		proto, err := m.getHTTP(t, client, http2)
		if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]; err != nil || proto != want {
			t.Errorf("HTTP: %q, %v; want %s", proto, err, want)
		}
	}
	// A client of gRPC that could speak HTTP/1, too, is served by the HTTP server.
	both := client.Clone()
	both.NextProtos = []string{protoHTTP1}
	if err := m.get(t, both); err != nil {
		t.Errorf("gRPC that offers HTTP/1: %v", err)
	}
	plain := &http.Client{Timeout: 5 * time.Second}
	if resp, err := plain.Get("http://" + m.client + "/version"); err == nil {
		resp.Body.Close()
		t.Errorf("HTTP without TLS: %s", resp.Status)
	}
}

// Who gets in, by certificate.
func TestClientCertificates(t *testing.T) {
	a, stranger := newAuthority(t, "ca"), newAuthority(t, "ca")
	server := a.issue("server", "server", nil)
	good, revoked := a.issue("good", "good", nil), a.issue("revoked", "revoked", nil)
	old, early := a.issue("old", "old", expired), a.issue("early", "early", notYet)
	other := a.issue("other", "other", elsewhere)
	foreign := stranger.issue("foreign", "good", nil)
	serverOnly := a.issue("serverOnly", "good", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	m := startMember(t, func(c *Config) {
		tls := &c.ClientTLS
		tls.CertFile, tls.KeyFile, tls.TrustedCAFile, tls.ClientCertAuth = server.cert, server.key, a.file, true
		tls.CRLFile = a.revoke("crl", revoked)
		tls.AllowedHostnames = []string{"localhost", "elsewhere.test"}
	})
	for _, c := range []struct {
		name string
		cert *issued
		says string // in the log; "" for one that gets in
	}{
		{"good", &good, ""},
		{"none", nil, "client didn't provide a certificate"},
		{"revoked", &revoked, "revoked"},
		{"expired", &old, "certificate has expired or is not yet valid"},
		{"not yet valid", &early, "certificate has expired or is not yet valid"},
		{"of another authority", &foreign, "certificate signed by unknown authority"},
		{"for servers only", &serverOnly, "incompatible key usage"},
		{"no allowed name", &other, "client certificate authentication failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(m.log.String())
			err := m.handshake(t, a.client(c.cert))
			if (err == nil) != (c.says == "") {
				t.Fatalf("got %v, want refusal: %v", err, c.says != "")
			}
			if c.says == "" {
				if err := m.get(t, a.client(c.cert)); err != nil {
					t.Errorf("gRPC: %v", err)
				}
				return
			}
			m.log.wait(t, before, c.says, "rejected connection on client endpoint")
			if err := m.get(t, a.client(c.cert)); err == nil {
				t.Error("gRPC is let in")
			}
		})
	}
}

// Certificates, and the list of revoked ones, are read at each handshake.
func TestCertificatesAreReadAnew(t *testing.T) {
	a := newAuthority(t, "ca")
	server, client := a.issue("server", "first", nil), a.issue("client", "client", nil)
	crl := a.revoke("crl")
	m := startMember(t, func(c *Config) {
		tls := &c.ClientTLS
		tls.CertFile, tls.KeyFile, tls.TrustedCAFile, tls.CRLFile = server.cert, server.key, a.file, crl
	})
	name := func() string {
		conn, err := tls.Dial("tcp", m.client, a.client(&client))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "first" {
		t.Fatalf("the server is %q", got)
	}
	a.issue("server", "second", nil) // into the same files
	if got := name(); got != "second" {
		t.Errorf("after the rotation the server is %q", got)
	}
	if err := m.handshake(t, a.client(&client)); err != nil {
		t.Fatal(err)
	}
	a.revoke("crl", client)
	if err := m.handshake(t, a.client(&client)); err == nil {
		t.Error("a certificate that was revoked meanwhile is let in")
	}
	// A server whose files are broken meanwhile refuses, and comes back with them.
	a.revoke("crl")
	good, err := os.ReadFile(server.cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(server.cert, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.handshake(t, a.client(&client)); err == nil {
		t.Error("a certificate that is cut off is shown")
	}
	if err := os.WriteFile(server.cert, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.handshake(t, a.client(&client)); err != nil {
		t.Errorf("with its files back: %v", err)
	}
}

func TestTLSVersionsAndSuites(t *testing.T) {
	a := newAuthority(t, "ca")
	server := a.issue("server", "server", nil)
	start := func(change func(*Config)) *testMember {
		return startMember(t, func(c *Config) {
			c.ClientTLS.CertFile, c.ClientTLS.KeyFile = server.cert, server.key
			change(c)
		})
	}
	at := func(version uint16, suites ...uint16) *tls.Config {
		c := a.client(nil)
		c.MinVersion, c.MaxVersion, c.CipherSuites = version, version, suites
		return c
	}
	newest := start(func(c *Config) { c.TLSMinVersion = "TLS1.3" })
	older := start(func(c *Config) {
		c.TLSMaxVersion, c.CipherSuites = "TLS1.2", []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}
	})
	for _, c := range []struct {
		name   string
		m      *testMember
		client *tls.Config
		in     bool
	}{
		{"1.3 with 1.3", newest, at(tls.VersionTLS13), true},
		{"1.2 with 1.3", newest, at(tls.VersionTLS12), false},
		{"1.3 with 1.2", older, at(tls.VersionTLS13), false},
		{"1.2 with 1.2", older, at(tls.VersionTLS12), true},
		{"the suite", older, at(tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), true},
		{"another suite", older, at(tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384), false},
	} {
		if err := c.m.handshake(t, c.client); (err == nil) != c.in {
			t.Errorf("%s: %v, want in: %v", c.name, err, c.in)
		}
	}
}

// With automatic TLS a certificate is made, kept, and holds as long as wanted.
func TestAutoTLS(t *testing.T) {
	m := startMember(t, func(c *Config) {
		c.ClientAutoTLS, c.PeerAutoTLS, c.SelfSignedYears = true, true, 3
		c.ListenPeerURLs[0].Scheme, c.AdvertisePeerURLs = "https", nil
		c.AdvertisePeerURLs = c.ListenPeerURLs
	})
	conn, err := tls.Dial("tcp", m.client, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cert := conn.ConnectionState().PeerCertificates[0]
	if years := time.Until(cert.NotAfter).Hours() / 24 / 365; years < 2.9 || years > 3.1 {
		t.Errorf("it holds until %s", cert.NotAfter)
	}
	if err := cert.VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
}

// Files that cannot be used stop the start, with the flags and the file's name.
func TestBadTLSFiles(t *testing.T) {
	a := newAuthority(t, "ca")
	good, other := a.issue("good", "good", nil), a.issue("other", "other", nil)
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		name   string
		change func(*Config)
		says   []string
	}{
		{"no certificate", func(c *Config) { c.ClientTLS.CertFile = missing }, []string{"--cert-file=" + missing, "no such file"}},
		{"no key", func(c *Config) { c.ClientTLS.KeyFile = "" }, []string{"--key-file=", "must both be present"}},
		{"garbage", func(c *Config) { c.ClientTLS.CertFile = garbage }, []string{"--cert-file=" + garbage}},
		{"another key", func(c *Config) { c.ClientTLS.KeyFile = other.key }, []string{"private key does not match"}},
		{"garbage as CA", func(c *Config) { c.ClientTLS.TrustedCAFile = garbage }, []string{"--trusted-ca-file=" + garbage}},
		{"half a client's pair", func(c *Config) { c.ClientTLS.ClientCertFile = good.cert }, []string{"--client-cert-file=" + good.cert, "both"}},
		{"no peer's certificate", func(c *Config) {
			c.ListenPeerURLs[0].Scheme, c.PeerTLS.CertFile, c.PeerTLS.KeyFile = "https", missing, good.key
		}, []string{"--peer-cert-file=" + missing, "no such file"}},
		{"TLS without files", func(c *Config) { c.ClientTLS.CertFile, c.ClientTLS.KeyFile = "", "" }, []string{"--cert-file, --key-file", "must be provided for client url"}},
		{"metrics without files", func(c *Config) {
			c.ClientTLS.CertFile, c.ClientTLS.KeyFile = "", ""
			c.ListenClientURLs[0].Scheme = "http"
			c.ListenMetricsURLs = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
		}, []string{"client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, _ := memberConfig(t)
			config.ListenClientURLs = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
			config.ClientTLS.CertFile, config.ClientTLS.KeyFile = good.cert, good.key
			c.change(&config)
			n, err := Start(t.Context(), config)
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Code != ExitUsage {
				if n != nil {
					_ = n.Stop(context.Background())
				}
				t.Fatalf("got %v", err)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%v; want %q", err, s)
				}
			}
		})
	}
}

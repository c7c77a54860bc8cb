package difftest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate for this machine, changed as wanted; an authority
// without one of its own signs itself.
func (a *authority) issue(change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "someone"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	change(c)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	own := a.issue(func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.Subject.CommonName, c.ExtKeyUsage = true, true, "authority", nil
	})
	a.cert, a.key = own.Leaf, own.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// write puts a certificate and its key into files.
func write(t *testing.T, c tls.Certificate) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	der, err := x509.MarshalECPrivateKey(c.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "EC PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// knock shakes hands and, where it is told to, asks for the version. Which
// protocol was agreed on is not told: a client that knows HTTP/1 only hears so
// here, and nothing from etcd.
func knock(t *testing.T, addr string, c *tls.Config, ask bool) string {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: callTimeout}, "tcp", addr, c)
	if err != nil {
		return "handshake: " + err.Error()
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		t.Fatal(err)
	}
	if ask {
		if _, err := fmt.Fprint(conn, "GET /version HTTP/1.0\r\n\r\n"); err != nil {
			return "write: " + err.Error()
		}
	}
	b := make([]byte, 12)
	n, err := conn.Read(b)
	return fmt.Sprintf("%q, %v", b[:n], err)
}

// Certificates that are wrong, and what is no TLS at all, on a port that wants
// certificates.
func TestSameTLSAsEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd server")
	}
	a, stranger := newAuthority(t), newAuthority(t)
	same := func(*x509.Certificate) {}
	cert, key := write(t, a.issue(same))
	ca, _ := write(t, tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key})
	sides := startTLS(t, limits{tls: transport.TLSInfo{CertFile: cert, KeyFile: key, TrustedCAFile: ca, ClientCertAuth: true}})
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	compare := func(name string, do func(addr string) string) {
		t.Helper()
		want := do(sides[0].addr)
		t.Logf("%s: %s", name, want)
		for _, s := range sides[1:] {
			if got := do(s.addr); got != want {
				t.Errorf("%s:\n%s: %s\netcd: %s", name, s.name, got, want)
			}
		}
	}
	for name, client := range map[string]tls.Certificate{
		"none":           {},
		"expired":        a.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		"not yet valid":  a.issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }),
		"of a stranger":  stranger.issue(same),
		"for servers":    a.issue(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }),
		"of another key": {Certificate: [][]byte{a.issue(same).Certificate[0]}, PrivateKey: stranger.key},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c := &tls.Config{RootCAs: pool, MinVersion: version, MaxVersion: version}
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &client, nil }
			// With TLS 1.3 the server's word on the certificate comes after the
			// handshake; a request that is sent meanwhile may lose it to a reset.
			compare(fmt.Sprintf("%s, %s", name, tls.VersionName(version)), func(addr string) string { return knock(t, addr, c, false) })
		}
	}
	good := a.issue(same)
	for _, c := range []*tls.Config{
		{NextProtos: nil}, {NextProtos: []string{"http/1.1"}}, {NextProtos: []string{"nonsense"}}, {MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10},
		{CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}, MaxVersion: tls.VersionTLS12},
	} {
		c.RootCAs = pool
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &good, nil }
		compare(fmt.Sprintf("good, %v, %v", c.NextProtos, c.CipherSuites), func(addr string) string { return knock(t, addr, c, true) })
	}
	for _, text := range []string{
		"GET /version HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x00\x02\x01\x00", "\x16\x03\x01\xff\xff",
		"\x15\x03\x01\x00\x02\x02\x28", "\x00\x00\x00\x00\x00\x00", strings.Repeat("\xff", 100),
	} {
		compare(fmt.Sprintf("%q", text), func(addr string) string { return talk(t, addr, text, time.Second) })
	}
}

// startTLS starts sides that are not dialled.
func startTLS(t *testing.T, l limits) []*side {
	t.Helper()
	sides := []*side{startEtcd(t, l)}
	for _, engine := range engines() {
		sides = append(sides, startMember(t, engine, l))
	}
	return sides
}

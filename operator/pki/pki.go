// Package pki makes and judges the certificates of one cluster. It owns how long
// they hold and when they are renewed, what makes a given one unusable, and the
// order in which members come to trust, show and forget authorities.
//
// It promises that everything but the making of keys is pure: the same pairs and
// the same time give the same answer. All certificates and keys are PEM. The
// controller calls it, and keeps what it returns in Secrets.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// Lifetimes say how long what is made here holds. Each is renewed when a third
// of its time is left.
type Lifetimes struct {
	Authority, Certificate time.Duration
	// Spread is how long a change of a Secret takes, at most, until every pod that
	// mounts it has it.
	Spread time.Duration
}

// DefaultLifetimes are those used in production. A kubelet brings Secrets to its
// pods once a minute or so.
func DefaultLifetimes() Lifetimes {
	return Lifetimes{Authority: 10 * 365 * 24 * time.Hour, Certificate: 90 * 24 * time.Hour, Spread: 3 * time.Minute}
}

// skew is how far the clocks of a cluster's machines may be apart.
const skew = 5 * time.Minute

// Pair is a certificate, its key, and the authorities that vouch for it.
type Pair struct{ CA, Cert, Key []byte }

// Empty says that there is nothing to show.
func (p Pair) Empty() bool { return len(p.Cert) == 0 || len(p.Key) == 0 }

// Matches says that the key is the certificate's.
func (p Pair) Matches() bool {
	_, err := tls.X509KeyPair(p.Cert, p.Key)
	return err == nil
}

// Equal says that two pairs are the same text.
func (p Pair) Equal(o Pair) bool {
	return bytes.Equal(p.CA, o.CA) && bytes.Equal(p.Cert, o.Cert) && bytes.Equal(p.Key, o.Key)
}

// NewAuthority makes a certificate that signs others, and its key.
func NewAuthority(name string, lifetime time.Duration, now time.Time) (Pair, error) {
	key, serial, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-skew), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	return encode(t, t, key, key)
}

// Request is what a certificate is to say.
type Request struct {
	CommonName string
	// Names are DNS names, and IP addresses as text.
	Names  []string
	Usages []x509.ExtKeyUsage
}

// Issue makes a certificate of an authority.
func Issue(authority Pair, r Request, lifetime time.Duration, now time.Time) (Pair, error) {
	signer, err := tls.X509KeyPair(authority.Cert, authority.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("read the authority: %w", err)
	}
	key, serial, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: r.CommonName},
		NotBefore: now.Add(-skew), NotAfter: earlier(now.Add(lifetime), signer.Leaf.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: r.Usages,
	}
	for _, name := range r.Names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	p, err := encode(t, signer.Leaf, key, signer.PrivateKey.(crypto.Signer))
	p.CA = authority.Cert
	return p, err
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// newKey makes what each certificate has of its own.
func newKey() (*ecdsa.PrivateKey, *big.Int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return key, serial, err
}

func encode(t, parent *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.Signer) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return Pair{}, err
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return Pair{}, err
	}
	text, err := cert.EncodeCertificates(made)
	if err != nil {
		return Pair{}, err
	}
	keyText, err := keyutil.MarshalPrivateKeyToPEM(key)
	return Pair{Cert: text, Key: keyText}, err
}

// Due says that a certificate made here is to be renewed: it is absent or
// broken, a third of its time or less is left, or it lacks a name.
func Due(certificate []byte, now time.Time, names ...string) bool {
	leaf, err := first(certificate)
	if err != nil {
		return true
	}
	for _, name := range names {
		if !hasName(leaf, name) {
			return true
		}
	}
	return leaf.NotAfter.Sub(now) <= leaf.NotAfter.Sub(leaf.NotBefore)/3
}

func hasName(leaf *x509.Certificate, name string) bool {
	for _, dns := range leaf.DNSNames {
		if dns == name {
			return true
		}
	}
	for _, ip := range leaf.IPAddresses {
		if ip.String() == name {
			return true
		}
	}
	return false
}

// NotAfter is when a certificate ends; the zero time when there is none.
func NotAfter(certificate []byte) time.Time {
	leaf, err := first(certificate)
	if err != nil {
		return time.Time{}
	}
	return leaf.NotAfter
}

// mostWarning is how long before its end the longest-lived certificate is told of.
const mostWarning = 14 * 24 * time.Hour

// Ending says that a certificate comes to its end and that somebody should have
// renewed it: whoever renews by a clock does it when a third of the time is left,
// so that a quarter is late.
func Ending(certificate []byte, now time.Time) bool {
	leaf, err := first(certificate)
	if err != nil {
		return false
	}
	return leaf.NotAfter.Sub(now) < min(mostWarning, leaf.NotAfter.Sub(leaf.NotBefore)/4)
}

func first(text []byte) (*x509.Certificate, error) {
	all, err := cert.ParseCertsPEM(text)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// Judge says why a pair cannot be used, in words that follow "Secret x": for
// a server or a client, under each of the hosts. Nil when it can.
func Judge(p Pair, hosts []string, usages []x509.ExtKeyUsage, now time.Time) error {
	switch {
	case len(p.CA) == 0:
		return errors.New("has no ca.crt; add the certificate of the authority that signed tls.crt")
	case len(p.Cert) == 0:
		return errors.New("has no tls.crt; add the certificate")
	case len(p.Key) == 0:
		return errors.New("has no tls.key; add the key that belongs to its tls.crt")
	}
	if _, err := tls.X509KeyPair(p.Cert, p.Key); err != nil {
		return fmt.Errorf("has a tls.crt and a tls.key that do not go together; write both anew: %w", err)
	}
	chain, err := cert.ParseCertsPEM(p.Cert)
	if err != nil {
		return fmt.Errorf("has a tls.crt that is none; write it anew: %w", err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(p.CA) {
		return errors.New("has a ca.crt without a certificate in PEM; write it anew")
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	leaf := chain[0]
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("has a tls.crt that ended at %s; renew it", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(leaf.NotBefore.Add(-skew)) {
		return fmt.Errorf("has a tls.crt that begins at %s only; look at the clocks", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	for _, usage := range usages {
		o := x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: later(now, leaf.NotBefore), KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := leaf.Verify(o); err != nil {
			return fmt.Errorf("has a tls.crt that its ca.crt does not vouch for as %s; renew one of them: %w", usageName(usage), err)
		}
	}
	for _, host := range hosts {
		if err := leaf.VerifyHostname(host); err != nil {
			return fmt.Errorf("has a tls.crt that does not name %s; renew it with that DNS name", host)
		}
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func usageName(u x509.ExtKeyUsage) string {
	if u == x509.ExtKeyUsageClientAuth {
		return "a client's (usage client auth)"
	}
	return "a server's (usage server auth)"
}

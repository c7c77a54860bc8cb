package pki

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"

	"k8s.io/client-go/util/cert"
)

// Published is what members have of one end, and since when.
type Published struct {
	Pair
	// Changed is when it was last written.
	Changed time.Time
}

// Publish brings what members have one step nearer to a source. Members get a
// change one after the other, so another authority comes in three steps with a
// Spread between them: all trust both, all show the new certificate, all forget
// the old authority. A certificate of authorities that are trusted already comes
// at once. changed is false when nothing is to be written now.
func Publish(p Published, source Pair, l Lifetimes, now time.Time) (next Published, changed bool) {
	next = Published{Pair: p.Pair, Changed: now}
	missing, extra := without(source.CA, p.CA), without(p.CA, source.CA)
	spread := !now.Before(p.Changed.Add(l.Spread))
	switch {
	case p.Empty():
		next.Pair = source
	case len(missing) > 0:
		next.CA = Bundle(p.CA, missing)
	case !bytes.Equal(p.Cert, source.Cert) || !bytes.Equal(p.Key, source.Key):
		if len(extra) > 0 && !spread {
			return p, false
		}
		next.Cert, next.Key = source.Cert, source.Key
	case len(extra) > 0:
		if !spread {
			return p, false
		}
		next.CA = source.CA
	default:
		return p, false
	}
	return next, true
}

// without are the certificates of one bundle that another does not have, each
// written anew: bundles that people write may lack the last line's end.
func without(bundle, other []byte) []byte {
	have, err := cert.ParseCertsPEM(other)
	if err != nil {
		have = nil
	}
	all, err := cert.ParseCertsPEM(bundle)
	if err != nil {
		return nil
	}
	var out []byte
	for _, c := range all {
		if slices.ContainsFunc(have, c.Equal) {
			continue
		}
		text, err := cert.EncodeCertificates(c)
		if err != nil {
			continue // it was parsed from such text
		}
		out = append(out, text...)
	}
	return out
}

// Bundle joins bundles; what is in more than one is there once.
func Bundle(bundles ...[]byte) []byte {
	var out []byte
	for _, b := range bundles {
		out = append(out, without(b, out)...)
	}
	return out
}

// SignedBy says that an authority of the bundle vouches for a certificate.
func SignedBy(certificate, bundle []byte) bool {
	leaf, err := first(certificate)
	if err != nil {
		return false
	}
	all, err := cert.ParseCertsPEM(bundle)
	return err == nil && slices.ContainsFunc(all, func(ca *x509.Certificate) bool { return leaf.CheckSignatureFrom(ca) == nil })
}

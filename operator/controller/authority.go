package controller

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"metastore.io/metastore/operator/pki"
	"metastore.io/metastore/operator/resources"
)

// selfSigned gives what the operator's own authority has for an end. Each end has
// an authority of its own: who may be a client may not be a peer.
func (r *Reconciler) selfSigned(ctx context.Context, o *observation, e resources.End) (*pki.Pair, error) {
	authority, err := r.ownAuthority(ctx, o, e)
	if authority.Empty() || err != nil {
		return nil, err // it is made first
	}
	now := o.tls.ends[e]
	names := resources.ServerNames(o.cluster, e)
	if pki.SignedBy(now.Cert, authority.Cert) && !pki.Due(now.Cert, o.now, names...) && now.Matches() {
		return &pki.Pair{CA: authority.Cert, Cert: now.Cert, Key: now.Key}, nil
	}
	made, err := pki.Issue(authority, pki.Request{
		CommonName: resources.MemberCommonName(o.cluster.Name, e), Names: names, Usages: usages(e),
	}, r.Certificates.Certificate, o.now)
	if err != nil {
		return nil, fmt.Errorf("issue the %s certificate: %w", e, err)
	}
	return &made, nil
}

// ownAuthority is the authority of an end; empty when it is yet to be written,
// since nothing may be signed by one that could be lost. It is made anew before
// it ends, long before what it has signed does.
func (r *Reconciler) ownAuthority(ctx context.Context, o *observation, e resources.End) (pki.Pair, error) {
	t := &o.tls
	if t.authority == nil {
		var ok bool
		var err error
		if t.authority, ok, err = r.ownSecret(ctx, o, resources.AuthorityName(o.cluster.Name), &t.complaints); !ok || err != nil {
			return pki.Pair{}, err
		}
	}
	var data map[string][]byte
	if t.authority != nil {
		data = t.authority.Data
	}
	old := pki.Pair{Cert: data[e.AuthorityKey()], Key: data[string(e)+"-ca.key"]}
	if !old.Empty() && !pki.Due(old.Cert, o.now) {
		return old, nil
	}
	made, err := pki.NewAuthority(fmt.Sprintf("%s %s authority", o.cluster.Name, e), r.Certificates.Authority, o.now)
	if err != nil {
		return pki.Pair{}, fmt.Errorf("make the %s authority: %w", e, err)
	}
	next := maps.Clone(data)
	if next == nil {
		next = map[string][]byte{}
	}
	next[e.AuthorityKey()], next[string(e)+"-ca.key"] = made.Cert, made.Key
	o.wantSecret(r.builder(o).Secret(resources.AuthorityName(o.cluster.Name), corev1.SecretTypeOpaque, next, versionOf(t.authority)))
	return pki.Pair{}, nil
}

// clientPair is the certificate for clients of the operator's own authority, with
// the authorities that vouch for members; have is the one of before. It follows
// what members show: by then all of them trust its authority.
func (r *Reconciler) clientPair(o *observation, have pki.Pair) (pki.Pair, error) {
	members := o.tls.ends[resources.EndClient]
	if members.Empty() || o.tls.authority == nil {
		return have, nil
	}
	authority := pki.Pair{Cert: o.tls.authority.Data[resources.EndClient.AuthorityKey()], Key: o.tls.authority.Data["client-ca.key"]}
	next := have
	next.CA = members.CA
	stale := !pki.SignedBy(have.Cert, authority.Cert) || pki.Due(have.Cert, o.now) || !have.Matches()
	if !stale || !pki.SignedBy(members.Cert, authority.Cert) {
		return next, nil
	}
	made, err := pki.Issue(authority, pki.Request{
		CommonName: resources.ClientCommonName(o.cluster.Name), Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, r.Certificates.Certificate, o.now)
	if err != nil {
		return have, fmt.Errorf("issue the certificate for clients: %w", err)
	}
	next.Cert, next.Key = made.Cert, made.Key
	return next, nil
}

package controller

import (
	"context"
	"crypto/x509"

	corev1 "k8s.io/api/core/v1"

	"metastore.io/metastore/operator/pki"
	"metastore.io/metastore/operator/resources"
)

// observeShown finds the certificate that the operator shows to members. What
// the user gives for it is kept in a Secret of the operator's own, beside the one
// that it makes where there is none: members ask for it until the last of them has
// left TLS behind, and by then the spec may name none any more.
func (r *Reconciler) observeShown(ctx context.Context, o *observation) error {
	if !o.uses(resources.EndClient) {
		return nil
	}
	s, ok, err := r.ownSecret(ctx, o, resources.ClientSecretName(o.cluster.Name), &o.tls.complaints)
	if !ok || err != nil {
		return err
	}
	have := pairOf(s)
	next := have
	switch source := sourceOf(o.cluster, resources.EndClient); {
	case source == nil:
	case source.SelfSigned != nil:
		next, err = r.clientPair(o, have)
	case source.CertManager != nil:
		next, err = r.issuedToOperator(ctx, o, have)
	case o.cluster.Spec.TLS.Client.OperatorSecretRef != nil:
		next, err = r.givenToOperator(ctx, o, have)
	}
	if err != nil {
		return err
	}
	if !next.Empty() && !next.Equal(have) {
		o.wantSecret(r.builder(o).Secret(resources.ClientSecretName(o.cluster.Name), corev1.SecretTypeTLS, secretData(next), versionOf(s)))
	}
	if have.Empty() {
		have = next
	}
	have.CA = pki.Bundle(o.tls.trusted, o.tls.ends[resources.EndClient].CA)
	if have.Empty() || len(have.CA) == 0 {
		return nil
	}
	if err := pki.Judge(have, nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, o.now); err != nil {
		o.tls.complain("Secret %s, which the operator shows to members, %v", resources.ClientSecretName(o.cluster.Name), err)
		return nil
	}
	o.tls.shown = have
	return nil
}

// givenToOperator is the pair that the user gives the operator, or the one of
// before while it is no good.
func (r *Reconciler) givenToOperator(ctx context.Context, o *observation, have pki.Pair) (pki.Pair, error) {
	const field = "spec.tls.client.operatorSecretRef"
	s, err := r.given(ctx, o, o.cluster.Spec.TLS.Client.OperatorSecretRef, field, &o.tls.complaints)
	return o.forOperator(s, field, have), err
}

// issuedToOperator is the same for what cert-manager issues.
func (r *Reconciler) issuedToOperator(ctx context.Context, o *observation, have pki.Pair) (pki.Pair, error) {
	s, err := r.operatorFromCertManager(ctx, o, sourceOf(o.cluster, resources.EndClient).CertManager)
	return o.forOperator(s, "Certificate "+resources.CertificateName(o.cluster.Name, operatorCertificate), have), err
}

// forOperator judges a Secret for the operator; without one, have stays.
func (o *observation) forOperator(s *corev1.Secret, of string, have pki.Pair) pki.Pair {
	p := pairOf(s)
	p.CA = pki.Bundle(o.tls.trusted, o.tls.ends[resources.EndClient].CA)
	if s == nil || len(p.CA) == 0 {
		return have // the members' own come first
	}
	if err := pki.Judge(p, nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, o.now); err != nil {
		o.tls.complain("Secret %s of %s %v", s.Name, of, err)
		return have
	}
	return p
}

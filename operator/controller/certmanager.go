package controller

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/resources"
)

// operatorCertificate is what the operator's own certificate is called among
// those of the ends.
const operatorCertificate = "operator"

// fromCertManager is the Secret that cert-manager has written for an end; nil
// while it has not. The Certificate is brought into shape first.
func (r *Reconciler) fromCertManager(ctx context.Context, o *observation, e resources.End, source *v1alpha1.CertManagerSource) (*corev1.Secret, error) {
	usage := usages(e)
	return r.certificate(ctx, o, r.builder(o).Certificate(string(e), resources.MemberCommonName(o.cluster.Name, e), resources.ServerNames(o.cluster, e),
		slices.Contains(usage, x509.ExtKeyUsageServerAuth), slices.Contains(usage, x509.ExtKeyUsageClientAuth), source.IssuerRef))
}

// operatorFromCertManager is the same for what the operator shows to members.
func (r *Reconciler) operatorFromCertManager(ctx context.Context, o *observation, source *v1alpha1.CertManagerSource) (*corev1.Secret, error) {
	return r.certificate(ctx, o, r.builder(o).Certificate(operatorCertificate, resources.ClientCommonName(o.cluster.Name), nil, false, true, source.IssuerRef))
}

func (r *Reconciler) certificate(ctx context.Context, o *observation, wanted *unstructured.Unstructured) (*corev1.Secret, error) {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(resources.CertificateKind)
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(wanted), live)
	switch {
	case meta.IsNoMatchError(err):
		o.tls.complain("spec.tls has certManager as a source, but there is no kind %s here; install cert-manager, or choose another source", resources.CertificateKind.GroupKind())
		return nil, nil
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("get Certificate %s: %w", wanted.GetName(), err)
	case err != nil:
		o.wantObject("Certificate/"+wanted.GetName(), stamped(wanted))
		return nil, nil
	}
	o.want("Certificate/", stamped(wanted), live.DeepCopy())
	s, err := r.secret(ctx, o, wanted.GetName())
	if s == nil && err == nil {
		o.tls.complain("cert-manager has not written Secret %s yet; Certificate %s says: %s", wanted.GetName(), wanted.GetName(), readiness(live))
	}
	return s, err
}

// readiness is a Certificate's own word.
func readiness(certificate *unstructured.Unstructured) string {
	all, _, _ := unstructured.NestedSlice(certificate.Object, "status", "conditions")
	for _, c := range all {
		if fields, ok := c.(map[string]any); ok && fields["type"] == "Ready" {
			return fmt.Sprint(fields["message"])
		}
	}
	return "nothing"
}

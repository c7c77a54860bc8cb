package controller

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/resources"
)

// clustersNaming maps a Secret to the clusters that read it, so that a fix is
// seen at once.
func (r *Reconciler) clustersNaming(ctx context.Context, o client.Object) []reconcile.Request {
	list := &v1alpha1.MetaStoreClusterList{}
	if err := r.Client.List(ctx, list, client.InNamespace(o.GetNamespace())); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list the clusters that name a Secret", "secret", o.GetName())
		return nil // they look again by themselves
	}
	var out []reconcile.Request
	for i := range list.Items {
		c := &list.Items[i]
		if slices.Contains(secretsOf(c), o.GetName()) {
			out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: c.Namespace, Name: c.Name}})
		}
	}
	return out
}

// secretsOf are the names of the Secrets that a cluster reads.
func secretsOf(c *v1alpha1.MetaStoreCluster) []string {
	var out []string
	if t := c.Spec.TLS; t != nil {
		out = append(out, ownSecrets(c)...)
		if t.Client != nil {
			out = append(out, named(t.Client.OperatorSecretRef)...)
		}
	}
	if a := c.Spec.Auth; a != nil {
		out = append(out, resources.CredentialsName(c.Name), a.RootCredentialsSecretRef.Name)
	}
	for _, e := range bothEnds {
		if source := sourceOf(c, e); source != nil {
			out = append(out, named(source.SecretRef)...)
			if source.CertManager != nil {
				out = append(out, resources.CertificateName(c.Name, string(e)), resources.CertificateName(c.Name, operatorCertificate))
			}
		}
	}
	return out
}

// ownSecrets are those that the operator writes.
func ownSecrets(c *v1alpha1.MetaStoreCluster) []string {
	return []string{resources.CertificatesName(c.Name), resources.ClientSecretName(c.Name), resources.AuthorityName(c.Name), resources.CredentialsName(c.Name)}
}

func named(ref *v1alpha1.SecretRef) []string {
	if ref == nil {
		return nil
	}
	return []string{ref.Name}
}

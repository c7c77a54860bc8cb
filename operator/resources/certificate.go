package resources

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metastore.io/metastore/api/v1alpha1"
)

// CertificateKind is cert-manager's, whose types are not worth a dependency.
var CertificateKind = schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"}

// CertificateName is the Certificate for an end, or for the operator itself, and
// the Secret that cert-manager writes for it.
func CertificateName(cluster, what string) string { return cluster + "-" + what + "-cert" }

// Certificate asks cert-manager for a certificate. The names are empty for one
// that is shown by clients only.
func (b Builder) Certificate(what, commonName string, names []string, server, client bool, issuer v1alpha1.CertManagerIssuer) *unstructured.Unstructured {
	usages := []any{"digital signature"}
	if server {
		usages = append(usages, "server auth")
	}
	if client {
		usages = append(usages, "client auth")
	}
	ref := map[string]any{"name": issuer.Name}
	for key, text := range map[string]string{"kind": issuer.Kind, "group": issuer.Group} {
		if text != "" {
			ref[key] = text
		}
	}
	spec := map[string]any{
		"secretName": CertificateName(b.cluster.Name, what), "commonName": commonName, "usages": usages, "issuerRef": ref,
		"privateKey": map[string]any{"algorithm": "ECDSA", "size": int64(256), "rotationPolicy": "Always"},
	}
	if len(names) > 0 {
		var list []any
		for _, name := range names {
			list = append(list, name)
		}
		spec["dnsNames"] = list
	}
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetGroupVersionKind(CertificateKind)
	meta := b.meta(CertificateName(b.cluster.Name, what))
	o.SetName(meta.Name)
	o.SetNamespace(meta.Namespace)
	o.SetLabels(meta.Labels)
	o.SetOwnerReferences(meta.OwnerReferences)
	return o
}

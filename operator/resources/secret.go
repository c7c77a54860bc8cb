package resources

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Secret is one that the cluster owns, on top of the version that was observed;
// what is in it is the caller's.
func (b Builder) Secret(name string, kind corev1.SecretType, data map[string][]byte, resourceVersion string) *corev1.Secret {
	meta := b.meta(name)
	meta.ResourceVersion = resourceVersion
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: meta, Type: kind, Data: data,
	}
}

// MemberCommonName is the common name of what members show at an end.
func MemberCommonName(cluster string, e End) string { return cluster + "-" + string(e) }

// ClientCommonName is the common name of the certificate for clients. No user is
// called so unless somebody makes one.
func ClientCommonName(cluster string) string { return cluster + "-client-tls" }

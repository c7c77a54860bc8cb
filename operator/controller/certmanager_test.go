package controller

import (
	"crypto/x509"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/pki"
	"metastore.io/metastore/operator/resources"
)

// certificateCRD is as much of cert-manager's as makes the API server take the kind.
const certificateCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io}
spec:
  group: cert-manager.io
  scope: Namespaced
  names: {kind: Certificate, listKind: CertificateList, plural: certificates, singular: certificate}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// issue does what cert-manager does with a Certificate.
func (f *fixture) issue(name string, ca pki.Pair) {
	GinkgoHelper()
	c := &unstructured.Unstructured{}
	c.SetGroupVersionKind(resources.CertificateKind)
	Eventually(func() error { return kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, c) }).WithTimeout(patience).Should(Succeed())
	spec := c.Object["spec"].(map[string]any)
	names, _, _ := unstructured.NestedStringSlice(c.Object, "spec", "dnsNames")
	var usages []x509.ExtKeyUsage
	for _, usage := range spec["usages"].([]any) {
		switch usage {
		case "server auth":
			usages = append(usages, x509.ExtKeyUsageServerAuth)
		case "client auth":
			usages = append(usages, x509.ExtKeyUsageClientAuth)
		}
	}
	Expect(spec["issuerRef"]).To(Equal(map[string]any{"name": "ours", "kind": "ClusterIssuer"}))
	made, err := pki.Issue(ca, pki.Request{CommonName: spec["commonName"].(string), Names: names, Usages: usages}, 90*time.Hour, time.Now())
	Expect(err).NotTo(HaveOccurred())
	Expect(kube.Create(f.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: spec["secretName"].(string)}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"ca.crt": made.CA, "tls.crt": made.Cert, "tls.key": made.Key},
	})).To(Succeed())
}

var _ = Describe("cert-manager", func() {
	It("is missing at first, and then issues all that a cluster with TLS needs", func(ctx SpecContext) {
		f := newFixture(ctx)
		stop := f.startOperator()
		source := v1alpha1.TLSSource{CertManager: &v1alpha1.CertManagerSource{IssuerRef: v1alpha1.CertManagerIssuer{Name: "ours", Kind: "ClusterIssuer"}}}
		f.create(3, withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, source), func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.TLS.Client.ClientCertificates = v1alpha1.ClientCertificatesRequired
		})
		stalled := func() string { return f.condition(v1alpha1.ConditionStalled) }
		Eventually(stalled).WithTimeout(patience).Should(ContainSubstring("there is no kind Certificate.cert-manager.io here; install cert-manager, or choose another source"))

		crd := &unstructured.Unstructured{}
		Expect(yaml.Unmarshal([]byte(certificateCRD), &crd.Object)).To(Succeed())
		Expect(kube.Create(ctx, crd)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(kube.Delete(ctx, crd)).To(Succeed()) })
		Eventually(stalled).WithTimeout(patience).Should(HavePrefix("True CertificatesMissing: cert-manager has not written Secret x-client-cert yet"))
		Expect(f.pods()).To(BeEmpty())
		ca := authority()
		for _, name := range []string{"x-client-cert", "x-peer-cert", "x-operator-cert"} {
			f.issue(name, ca)
		}
		f.awaitReady()
		f.expectModes(v1alpha1.TLSRequired, v1alpha1.TLSRequired)
		Expect(f.secret("x-client-tls").Data["tls.crt"]).To(Equal(f.secret("x-operator-cert").Data["tls.crt"]))
		Expect(f.secret("x-tls").Data["peer.crt"]).To(Equal(f.secret("x-peer-cert").Data["tls.crt"]))
		stop()
		f.expectNothingWritten()
	})
})

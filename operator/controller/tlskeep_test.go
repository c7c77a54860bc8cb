package controller

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/pki"
)

var _ = Describe("What is left of TLS", func() {
	var f *fixture
	BeforeEach(func(ctx SpecContext) { f = newFixture(ctx) })
	tlsReady := func() string { return f.condition(v1alpha1.ConditionTLSReady) }

	It("is the peer URLs at kept volumes: the cluster does not come back without TLS, and does with it", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3, withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, selfSigned))
		f.awaitReady()
		id := f.cluster().Status.ClusterID
		for _, claim := range f.claims() {
			Expect(claim.Annotations).To(HaveKeyWithValue(annotationPeerTLS, "true"))
		}
		f.removeCluster()
		f.create(3)
		Eventually(func() string { return f.condition(v1alpha1.ConditionStalled) }).WithTimeout(patience).Should(
			And(HavePrefix("True PeerTLSNeeded"), ContainSubstring("set spec.tls.peer to mode Permissive with a source")))
		Expect(f.pods()).To(BeEmpty())
		f.edit(withTLS(v1alpha1.TLSDisabled, v1alpha1.TLSPermissive, selfSigned))
		f.awaitReady()
		Expect(f.cluster().Status.ClusterID).To(Equal(id))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.TLS = nil })
		f.expectModes(v1alpha1.TLSDisabled, v1alpha1.TLSDisabled)
		for _, claim := range f.claims() {
			Expect(claim.Annotations).NotTo(HaveKey(annotationPeerTLS))
		}
	})

	It("is the operator's certificate, until the last member has left TLS behind", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.writeSecret("mine", authority(), f.memberNames()...)
		f.create(1, withTLS(v1alpha1.TLSRequired, v1alpha1.TLSDisabled, mine), func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.TLS.Client.ClientCertificates, c.Spec.TLS.Client.OperatorSecretRef = v1alpha1.ClientCertificatesRequired, mine.SecretRef
		})
		f.awaitReady()
		Expect(f.secret("x-client-tls").Data["tls.key"]).To(Equal(f.secret("mine").Data["tls.key"]))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.TLS = nil })
		f.expectModes(v1alpha1.TLSDisabled, v1alpha1.TLSDisabled)
		Eventually(func() map[string][]byte { return f.secret("x-tls").Data }).WithTimeout(patience).Should(BeEmpty(), "keys that nobody needs any more")
	})

	It("is nothing of an end that is off: its certificate may end", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1, withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, selfSigned))
		f.awaitReady()
		f.edit(withTLS(v1alpha1.TLSDisabled, v1alpha1.TLSRequired, selfSigned))
		f.expectModes(v1alpha1.TLSDisabled, v1alpha1.TLSRequired)
		Eventually(func() []string {
			var names []string
			for _, c := range f.cluster().Status.TLS.Certificates {
				names = append(names, c.Name)
			}
			return names
		}).WithTimeout(patience).ShouldNot(Or(ContainElement("client"), ContainElement("operator")))
	})

	It("is told of by a share of the certificate's lifetime, with an event", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		ca := authority()
		f.writeSecretOf("mine", ca, time.Hour, time.Now(), f.memberNames()...)
		f.create(1, withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, mine))
		f.awaitReady()
		Eventually(tlsReady).WithTimeout(patience).Should(HavePrefix("True CertificatesHold"))
		f.writeSecretOf("mine", ca, time.Hour, time.Now().Add(-50*time.Minute), f.memberNames()...)
		Eventually(tlsReady).WithTimeout(patience).Should(HavePrefix("True CertificateExpiring"))
		Eventually(f.events.actions).WithTimeout(patience).Should(ContainElement(HavePrefix("Warning Certificates CertificateExpiring: the certificate \"client\" ends at")))
		end := pki.NotAfter(f.secret("mine").Data["tls.crt"])
		Eventually(f.certificateEnds).WithTimeout(patience).Should(Equal(map[string]float64{"client": float64(end.Unix()), "peer": float64(end.Unix())}))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.TLS = nil })
		f.expectModes(v1alpha1.TLSDisabled, v1alpha1.TLSDisabled)
		Eventually(f.certificateEnds).WithTimeout(patience).Should(BeEmpty())
	})

	It("is not taken over from somebody else", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "x-ca"}, Data: map[string][]byte{"a": []byte("b")}}
		Expect(kube.Create(ctx, theirs)).To(Succeed())
		f.create(1, withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, selfSigned))
		Eventually(func() string { return f.condition(v1alpha1.ConditionStalled) }).WithTimeout(patience).Should(
			HavePrefix("True CertificatesMissing: Secret x-ca exists and is not the operator's"))
		Expect(f.secret("x-ca").Data).To(HaveLen(1))
		Expect(kube.Delete(ctx, theirs)).To(Succeed())
		f.awaitReady()
	})

	It("is made good when a key is damaged", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1, withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, selfSigned))
		f.awaitReady()
		s := f.secret("x-tls")
		s.Data["peer.key"], s.Data["client-ca.crt"] = []byte("damaged"), []byte("damaged")
		Expect(kube.Update(ctx, s)).To(Succeed())
		Eventually(func(g Gomega) {
			d := f.secret("x-tls").Data
			g.Expect(pki.Pair{Cert: d["peer.crt"], Key: d["peer.key"]}.Matches()).To(BeTrue())
			g.Expect(pki.SignedBy(d["client.crt"], d["client-ca.crt"])).To(BeTrue())
		}).WithTimeout(patience).Should(Succeed())
		f.awaitReady()
	})
})

// certificateEnds are the metric's values for the cluster, by certificate.
func (f *fixture) certificateEnds() map[string]float64 {
	GinkgoHelper()
	families, err := metrics.Registry.Gather()
	Expect(err).NotTo(HaveOccurred())
	out := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "metastore_operator_certificate_not_after_timestamp_seconds" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["namespace"] == f.namespace {
				out[labels["certificate"]] = m.GetGauge().GetValue()
			}
		}
	}
	return out
}

// removeCluster deletes the cluster and what it owns, as the garbage collector
// does, and leaves the volumes.
func (f *fixture) removeCluster() {
	GinkgoHelper()
	Expect(kube.Delete(f.ctx, f.cluster(), client.PropagationPolicy(metav1.DeletePropagationForeground))).To(Succeed())
	Eventually(func() error { return kube.Get(f.ctx, f.key(), &v1alpha1.MetaStoreCluster{}) }).WithTimeout(patience).Should(Satisfy(apierrors.IsNotFound))
	Eventually(f.pods).WithTimeout(patience).Should(BeEmpty())
}

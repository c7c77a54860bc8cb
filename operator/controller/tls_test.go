package controller

import (
	"crypto/x509"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/pki"
	"metastore.io/metastore/operator/resources"
)

// withTLS sets one source and the modes of both ends.
func withTLS(client, peer v1alpha1.TLSMode, source v1alpha1.TLSSource) func(*v1alpha1.MetaStoreCluster) {
	return func(c *v1alpha1.MetaStoreCluster) {
		c.Spec.TLS = &v1alpha1.TLSSpec{
			Client: &v1alpha1.ClientTLS{Mode: client, Source: &source},
			Peer:   &v1alpha1.PeerTLS{Mode: peer, Source: &source},
		}
	}
}

var (
	selfSigned = v1alpha1.TLSSource{SelfSigned: &v1alpha1.SelfSigned{}}
	mine       = v1alpha1.TLSSource{SecretRef: &v1alpha1.SecretRef{Name: "mine"}}
)

func (f *fixture) secret(name string) *corev1.Secret {
	s := &corev1.Secret{}
	Expect(kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, s)).To(Succeed())
	return s
}

// authority is somebody else's, for Secrets that users write.
func authority() pki.Pair {
	ca, err := pki.NewAuthority("test", 1000*time.Hour, time.Now())
	Expect(err).NotTo(HaveOccurred())
	return ca
}

// writeSecret writes a certificate of an authority as a user does.
func (f *fixture) writeSecret(name string, ca pki.Pair, names ...string) {
	f.writeSecretOf(name, ca, 90*time.Hour, time.Now(), names...)
}

// writeSecretOf does so with a certificate of this lifetime that was made then.
func (f *fixture) writeSecretOf(name string, ca pki.Pair, lifetime time.Duration, began time.Time, names ...string) {
	made, err := pki.Issue(ca, pki.Request{
		Names: names, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, lifetime, began)
	Expect(err).NotTo(HaveOccurred())
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"ca.crt": made.CA, "tls.crt": made.Cert, "tls.key": made.Key},
	}
	if err := kube.Create(f.ctx, s); client.IgnoreAlreadyExists(err) != nil || err == nil {
		Expect(err).NotTo(HaveOccurred())
		return
	}
	Expect(kube.Update(f.ctx, s)).To(Succeed())
}

func (f *fixture) memberNames() []string {
	return resources.ServerNames(&v1alpha1.MetaStoreCluster{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: f.name}}, resources.EndClient)
}

func (f *fixture) condition(t string) string {
	c := condition(f.cluster().Status.Conditions, t)
	if c == nil {
		return ""
	}
	return string(c.Status) + " " + c.Reason + ": " + c.Message
}

// expectModes looks at the settled cluster: pods, status and peer URLs agree, and
// at no time was a member cut off.
func (f *fixture) expectModes(client, peer v1alpha1.TLSMode) {
	GinkgoHelper()
	modes := v1alpha1.TLSModes{Client: client, Peer: peer}
	Eventually(func(g Gomega) {
		g.Expect(f.settled(f.cluster())).To(BeEmpty())
		for name, p := range f.pods() {
			g.Expect(resources.Modes(p.Annotations)).To(Equal(modes), name)
		}
	}).WithTimeout(patience).WithPolling(50*time.Millisecond).Should(Succeed(), func() string {
		return f.condition("Ready") + "\n" + f.condition("TLSReady")
	})
	Expect(f.fake.CutOff()).To(BeEmpty())
	for _, m := range f.fake.Look(f.ctx, []string{resources.ClientURL(f.cluster(), 0, false)}).Members {
		Expect(m.PeerURLs[0]).To(HavePrefix(map[bool]string{true: "https:", false: "http:"}[peer == v1alpha1.TLSRequired]))
	}
}

var _ = Describe("TLS", func() {
	var f *fixture
	BeforeEach(func(ctx SpecContext) { f = newFixture(ctx) })

	It("is there from the start with the operator's own authority, and then nothing is written", func(ctx SpecContext) {
		f.ctx = ctx
		stop := f.startOperator()
		f.create(3, withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, selfSigned))
		f.awaitReady()
		f.expectModes(v1alpha1.TLSRequired, v1alpha1.TLSRequired)
		status := f.cluster().Status
		Expect(f.condition(v1alpha1.ConditionTLSReady)).To(HavePrefix("True"))
		Expect(status.TLS.Modes).To(Equal(v1alpha1.TLSModes{Client: v1alpha1.TLSRequired, Peer: v1alpha1.TLSRequired}))
		var names []string
		for _, c := range status.TLS.Certificates {
			names = append(names, c.Name)
		}
		Expect(names).To(Equal([]string{"client", "client-ca", "operator", "peer", "peer-ca"}))
		forClients := f.secret("x-client-tls")
		Expect(pki.SignedBy(f.secret("x-tls").Data["client.crt"], forClients.Data["ca.crt"])).To(BeTrue())
		Expect(forClients.Data).NotTo(HaveKey("ca.key"))
		stop()
		f.expectNothingWritten()
	})

	It("comes to a live cluster and leaves it again, without a member that is cut off", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		f.edit(withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, selfSigned))
		f.expectModes(v1alpha1.TLSRequired, v1alpha1.TLSRequired)
		Expect(f.fake.Changes()).To(ContainElements("update x-0 https", "update x-1 https", "update x-2 https"))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.TLS = nil })
		f.expectModes(v1alpha1.TLSDisabled, v1alpha1.TLSDisabled)
		Eventually(func() *v1alpha1.TLSStatus { return f.cluster().Status.TLS }).WithTimeout(patience).Should(BeNil())
		settings := &corev1.ConfigMap{}
		Expect(kube.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: "x-members"}, settings)).To(Succeed())
		Expect(settings.Data).To(HaveLen(3), "the settings of other modes go when no pod needs them")
	})

	It("waits for a Secret that is missing or wrong, says what to do, and takes the fix at once", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1, withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, mine))
		stalled := func() string { return f.condition(v1alpha1.ConditionStalled) }
		Eventually(stalled).WithTimeout(patience).Should(
			Equal("True CertificatesMissing: spec.tls.client.source.secretRef names Secret mine, which does not exist; make it, or name another"))
		ca := authority()
		f.writeSecret("mine", ca, "elsewhere")
		Eventually(stalled).WithTimeout(patience).Should(
			Equal("True CertificatesMissing: Secret mine of spec.tls.client.source.secretRef has a tls.crt that does not name " +
				"x-0.x-peers." + f.namespace + ".svc; renew it with that DNS name"))
		Expect(f.pods()).To(BeEmpty(), "a cluster that is to have TLS was begun without")
		f.writeSecret("mine", ca, f.memberNames()...)
		f.awaitReady()
		f.expectModes(v1alpha1.TLSRequired, v1alpha1.TLSRequired)

		By("a Secret that goes wrong later, which members never see")
		good := f.secret("x-tls").Data["client.crt"]
		Expect(kube.Delete(ctx, f.secret("mine"))).To(Succeed())
		Eventually(stalled).WithTimeout(patience).Should(ContainSubstring("does not exist"))
		Expect(f.condition(v1alpha1.ConditionTLSReady)).To(HavePrefix("False CertificatesMissing"))
		Expect(f.secret("x-tls").Data["client.crt"]).To(Equal(good))

		By("another authority, which all trust before anybody shows its certificate")
		uids := f.pods()
		other := authority()
		f.writeSecret("mine", other, f.memberNames()...)
		Eventually(func() bool {
			s := f.secret("x-tls")
			return pki.SignedBy(s.Data["peer.crt"], other.Cert) && pki.SignedBy(s.Data["client.crt"], other.Cert) &&
				!pki.SignedBy(good, s.Data["client-ca.crt"])
		}).WithTimeout(patience).Should(BeTrue())
		f.awaitReady()
		Expect(f.pods()["x-0"].UID).To(Equal(uids["x-0"].UID), "new certificates restarted a member")
	})
})

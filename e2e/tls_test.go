package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/pki"
)

const peerPort = 2380

// One cluster goes from no TLS to nothing but TLS and back, with clients that
// write all the while: those without TLS as long as they are let in, those with
// it from when they are. Between the two its certificate is renewed.
var _ = Describe("TLS on a live cluster", func() {
	const replicas = 3
	var namespace string
	BeforeEach(func(ctx context.Context) { namespace = env.namespace(ctx) })
	JustAfterEach(func(ctx context.Context) { env.collectOnFailure(ctx, namespace) })

	It("comes, is renewed and goes without a failed write; then users come and go", func(ctx context.Context) {
		c := createCluster(ctx, namespace, "turned", v1alpha1.EngineMemory, replicas)
		issuer, err := pki.NewAuthority("somebody's own", time.Hour, time.Now())
		Expect(err).NotTo(HaveOccurred())
		c.writeCertificate(ctx, "mine", issuer)
		c.untilReady(ctx)

		By("Disabled, then Permissive")
		plain := c.startWriters(ctx, "plain/", c.insecureClient)
		c.setTLS(ctx, v1alpha1.TLSPermissive)
		expectNoFailure(ctx, plain, "no TLS, members coming to accept both")

		By("then Required")
		tight := c.startWriters(ctx, "tight/", c.secureClient)
		finish(ctx, plain, c.secureClient(ctx, 0))
		c.setTLS(ctx, v1alpha1.TLSRequired)
		expectNoFailure(ctx, tight, "TLS, members coming to accept nothing else")
		c.expectPeerURLs(ctx, replicas, "https")
		c.expectRefused(ctx, c.insecureClient(ctx, 0))
		c.expectRefused(ctx, c.withTLS(0, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.tlsConfig(ctx).RootCAs}))

		By("with another certificate, and no restart")
		before, restarts := c.uids(ctx), c.restarts(ctx)
		serial := c.writeCertificate(ctx, "mine", issuer)
		for ordinal := range replicas {
			for _, port := range []int{clientPort, peerPort} {
				Eventually(func(ctx context.Context) (*big.Int, error) {
					c.nudge(ctx, ordinal)
					return c.shownAt(ctx, ordinal, port)
				}).WithContext(ctx).WithTimeout(2*time.Minute).Should(Equal(serial), "member %d, port %d", ordinal, port)
			}
		}
		expectNoFailure(ctx, tight, "TLS, another certificate")
		Expect(c.uids(ctx)).To(Equal(before))
		Expect(c.restarts(ctx)).To(Equal(restarts))

		By("Permissive again")
		c.setTLS(ctx, v1alpha1.TLSPermissive)
		expectNoFailure(ctx, tight, "TLS, members coming to accept both")

		By("and Disabled")
		plain = c.startWriters(ctx, "plain-again/", c.insecureClient)
		finish(ctx, tight, c.insecureClient(ctx, 0))
		c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) { object.Spec.TLS = nil })
		c.untilReady(ctx)
		expectNoFailure(ctx, plain, "no TLS, members coming to accept nothing else")
		finish(ctx, plain, c.insecureClient(ctx, 0))
		c.expectPeerURLs(ctx, replicas, "http")
		c.expectSameData(ctx, replicas)
		c.expectUsers(ctx)
	}, NodeTimeout(10*time.Minute))
})

// startWriters writes through the Service and through the names of all members.
func (c *cluster) startWriters(ctx context.Context, prefix string, dial func(context.Context, int) *clientv3.Client) []*writer {
	GinkgoHelper()
	return []*writer{startWriter(dial(ctx, 0), prefix+"service/"), startWriter(dial(ctx, 3), prefix+"members/")}
}

// expectNoFailure waits for a few more writes first: what was cut off shows then.
func expectNoFailure(ctx context.Context, writers []*writer, scenario string) {
	GinkgoHelper()
	for _, w := range writers {
		w.expectProgress(ctx, 10)
		w.mu.Lock()
		AddReportEntry("downtime", fmt.Sprintf("%s: %s %d writes, %d failed, longest time without one %s",
			scenario, w.prefix, len(w.acked), w.failed, w.longest.Round(time.Millisecond)))
		failed := w.failed
		w.mu.Unlock()
		Expect(failed).To(BeZero(), "%s: a client saw it", scenario)
	}
}

func finish(ctx context.Context, writers []*writer, reader *clientv3.Client) {
	GinkgoHelper()
	for _, w := range writers {
		w.checkAll(ctx, reader)
	}
}

// setTLS sets the mode of both ports, with the Secret "mine".
func (c *cluster) setTLS(ctx context.Context, mode v1alpha1.TLSMode) {
	GinkgoHelper()
	mine := &v1alpha1.SecretRef{Name: "mine"}
	source := &v1alpha1.TLSSource{SecretRef: mine}
	c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) {
		object.Spec.TLS = &v1alpha1.TLSSpec{
			Client: &v1alpha1.ClientTLS{Mode: mode, Source: source, ClientCertificates: v1alpha1.ClientCertificatesRequired, OperatorSecretRef: mine},
			Peer:   &v1alpha1.PeerTLS{Mode: mode, Source: source},
		}
	})
	object := c.untilReady(ctx)
	Expect(meta.IsStatusConditionTrue(object.Status.Conditions, v1alpha1.ConditionTLSReady)).To(BeTrue(), "conditions %+v", object.Status.Conditions)
	Expect(object.Status.TLS.Modes).To(Equal(v1alpha1.TLSModes{Client: mode, Peer: mode}))
}

func (c *cluster) serviceHost() string { return c.key.Name + "." + c.key.Namespace + ".svc" }

func (c *cluster) memberHost(ordinal int) string {
	return fmt.Sprintf("%s.%s-peers.%s.svc", c.podName(ordinal), c.key.Name, c.key.Namespace)
}

// dialName dials what the cluster's DNS would find for a name: the Service's, or
// a member's.
func (c *cluster) dialName(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host != c.serviceHost() {
		pod, _, _ := strings.Cut(host, ".")
		return c.dialPod(ctx, net.JoinHostPort(pod, port))
	}
	var service corev1.Service
	if err := c.env.client.Get(ctx, c.key, &service); err != nil {
		return nil, err
	}
	if !c.env.direct {
		pod, err := c.readyPodBehind(ctx, service)
		if err != nil {
			return nil, err
		}
		return c.env.forward(ctx, c.key.Namespace, pod)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(service.Spec.ClusterIP, port))
}

// insecureClient and secureClient have nothing but their addresses and, if so,
// certificates: the Service's name, or those of as many members.
func (c *cluster) insecureClient(_ context.Context, members int) *clientv3.Client {
	GinkgoHelper()
	return c.withTLS(members, nil)
}

func (c *cluster) secureClient(ctx context.Context, members int) *clientv3.Client {
	GinkgoHelper()
	return c.withTLS(members, c.tlsConfig(ctx))
}

func (c *cluster) withTLS(members int, config *tls.Config) *clientv3.Client {
	GinkgoHelper()
	return clientOf(c.clientConfig(members, config))
}

func (c *cluster) clientConfig(members int, config *tls.Config) clientv3.Config {
	scheme := "http"
	if config != nil {
		scheme = "https"
	}
	hosts := []string{c.serviceHost()}
	if members > 0 {
		hosts = nil
	}
	for ordinal := range members {
		hosts = append(hosts, c.memberHost(ordinal))
	}
	var endpoints []string
	for _, host := range hosts {
		endpoints = append(endpoints, fmt.Sprintf("%s://%s:%d", scheme, host, clientPort))
	}
	return clientv3.Config{Endpoints: endpoints, DialOptions: dialWith(c.dialName), TLS: config}
}

// tlsConfig trusts and shows what the Secret "mine" holds.
func (c *cluster) tlsConfig(ctx context.Context) *tls.Config {
	GinkgoHelper()
	secret := &corev1.Secret{}
	Expect(env.client.Get(ctx, client.ObjectKey{Namespace: c.key.Namespace, Name: "mine"}, secret)).To(Succeed())
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	Expect(err).NotTo(HaveOccurred())
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(secret.Data["ca.crt"])).To(BeTrue())
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}}
}

// expectRefused makes one request, which must not succeed.
func (c *cluster) expectRefused(ctx context.Context, etcd *clientv3.Client) {
	GinkgoHelper()
	callCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := etcd.Get(callCtx, "a")
	Expect(err).To(HaveOccurred())
}

// expectPeerURLs looks at the members' own word of where they reach each other.
func (c *cluster) expectPeerURLs(ctx context.Context, replicas int, scheme string) {
	GinkgoHelper()
	etcd := c.insecureClient(ctx, 0)
	if scheme == "https" {
		etcd = c.secureClient(ctx, 0)
	}
	list, err := etcd.MemberList(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(list.Members).To(HaveLen(replicas))
	for _, m := range list.Members {
		Expect(m.PeerURLs).To(HaveEach(HavePrefix(scheme+":")), "member %s", m.Name)
	}
}

// shownAt is the serial number of the certificate that a member shows.
func (c *cluster) shownAt(ctx context.Context, ordinal, port int) (*big.Int, error) {
	conn, err := c.dialPod(ctx, fmt.Sprintf("%s:%d", c.podName(ordinal), port))
	if err != nil {
		return nil, err
	}
	config := c.tlsConfig(ctx)
	config.ServerName = c.memberHost(ordinal)
	secure := tls.Client(conn, config)
	defer secure.Close()
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secure.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

// nudge has the kubelet look at a pod now, where it would bring a changed Secret
// to it within a minute or two.
func (c *cluster) nudge(ctx context.Context, ordinal int) {
	GinkgoHelper()
	pod := c.pod(ctx, ordinal)
	base := pod.DeepCopy()
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, "e2e/nudged", time.Now().String())
	Expect(env.client.Patch(ctx, &pod, client.MergeFrom(base))).To(Succeed())
}

func (c *cluster) restarts(ctx context.Context) map[string]int32 {
	GinkgoHelper()
	pods, err := c.pods(ctx)
	Expect(err).NotTo(HaveOccurred())
	out := map[string]int32{}
	for _, pod := range pods {
		for _, s := range pod.Status.ContainerStatuses {
			out[pod.Name] += s.RestartCount
		}
	}
	return out
}

// writeCertificate writes a Secret, in the shape in which cert-manager does, with
// a new certificate of somebody's own authority, and returns its serial number.
func (c *cluster) writeCertificate(ctx context.Context, name string, issuer pki.Pair) *big.Int {
	GinkgoHelper()
	made, err := pki.Issue(issuer, pki.Request{
		CommonName: name, Names: []string{"*." + c.key.Name + "-peers." + c.key.Namespace + ".svc", c.serviceHost()},
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, time.Hour, time.Now())
	Expect(err).NotTo(HaveOccurred())
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.key.Namespace, Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"ca.crt": made.CA, corev1.TLSCertKey: made.Cert, corev1.TLSPrivateKeyKey: made.Key},
	}
	err = env.client.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		err = env.client.Update(ctx, secret)
	}
	Expect(err).NotTo(HaveOccurred())
	pair, err := tls.X509KeyPair(made.Cert, made.Key)
	Expect(err).NotTo(HaveOccurred())
	return pair.Leaf.SerialNumber
}

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

// A cluster changes hands: from the operator of config/default to one by helm
// that may look at its namespace only, to none, and to one by helm again. Its
// members notice nothing of it.
var _ = Describe("the chart", Ordered, func() {
	const replicas = 3
	var (
		namespace string
		c         *cluster
		k         *checker
		r         release
	)

	BeforeAll(func(ctx context.Context) {
		namespace = env.namespace(ctx)
		r = release{name: "store", namespace: namespace}
		c = createCluster(ctx, namespace, "handed", v1alpha1.EngineRocksDB, replicas)
		c.untilReady(ctx)
		By("taking away the operator of config/default")
		env.scaleOperator(ctx, 0)
		DeferCleanup(func(ctx context.Context) { env.scaleOperator(ctx, env.operatorReplicas) })
		DeferCleanup(r.remove)
		k = c.startChecker(ctx, "handed/", replicas)
	}, NodeTimeout(readyTimeout))
	JustAfterEach(func(ctx context.Context) {
		if CurrentSpecReport().Failed() {
			out, err := env.kube(ctx, "", "-n", namespace, "logs", "deployment/"+r.deployment(), "--tail=40")
			GinkgoWriter.Println(out, err)
		}
		env.collectOnFailure(ctx, namespace)
	})

	It("takes over a cluster and leaves its pods alone", func(ctx context.Context) {
		pods := c.uids(ctx)
		r.apply(ctx)
		c.untilSeen(ctx, 1)
		Expect(c.uids(ctx)).To(Equal(pods))
	}, NodeTimeout(readyTimeout))

	It("is upgraded without a restart of a member", func(ctx context.Context) {
		pods := c.uids(ctx)
		before := r.operator(ctx)
		r.apply(ctx, "--set", "extraArgs[0]=--log-level=debug,replicas=2,clusterReads=false")
		Expect(r.operator(ctx).Generation).To(BeNumerically(">", before.Generation))
		c.untilSeen(ctx, 2)
		Expect(c.uids(ctx)).To(Equal(pods))
		out, err := env.kube(ctx, "", "-n", namespace, "logs", "deployment/"+r.deployment(), "--all-pods")
		Expect(err).NotTo(HaveOccurred())
		Expect(out).NotTo(ContainSubstring("forbidden"), "the operator lacks a right")
	}, NodeTimeout(readyTimeout))

	It("is uninstalled, and the cluster goes on", func(ctx context.Context) {
		pods := c.uids(ctx)
		r.remove(ctx)
		Eventually(func(ctx context.Context) bool {
			return apierrors.IsNotFound(env.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: r.deployment()}, &appsv1.Deployment{}))
		}).WithContext(ctx).WithTimeout(progressTimeout).Should(BeTrue())
		out, err := env.kube(ctx, "", "get", "crd", "-o", "name")
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(ContainSubstring("metastoreclusters.metastore.io"))
		object, err := c.get(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(object.DeletionTimestamp).To(BeNil())
		Expect(c.uids(ctx)).To(Equal(pods))
		k.expectNoFailure("a change of operators")
		By("losing a pod while there is no operator")
		c.replacePod(ctx, 1)
	}, NodeTimeout(readyTimeout))

	It("is installed again, takes over, and carries out what was asked for meanwhile", func(ctx context.Context) {
		pods := c.uids(ctx)
		c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) {
			object.Spec.Server = &v1alpha1.ServerSpec{SnapshotCount: ptr.To(int64(20000))}
		})
		r.apply(ctx)
		c.untilReady(ctx)
		for name, uid := range c.uids(ctx) {
			Expect(uid).NotTo(Equal(pods[name]), "pod %s was not restarted", name)
		}
		k.expectAllWatched(ctx)
		r.remove(ctx)
	}, NodeTimeout(2*readyTimeout))
})

// untilSeen makes a change that needs no restart and waits until an operator has
// seen it. n makes the change differ from the one before.
func (c *cluster) untilSeen(ctx context.Context, n int32) {
	GinkgoHelper()
	c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) {
		object.Spec.Update = &v1alpha1.UpdateSpec{MinReadySeconds: ptr.To(n)}
	})
	c.untilReady(ctx)
}

// scaleOperator changes how many operators of config/default there are, and
// waits for it.
func (e *environment) scaleOperator(ctx context.Context, replicas int32) {
	GinkgoHelper()
	_, err := e.kube(ctx, "", "-n", e.operator.Namespace, "scale", "deployment/"+e.operator.Name, fmt.Sprintf("--replicas=%d", replicas))
	Expect(err).NotTo(HaveOccurred())
	Eventually(func(g Gomega, ctx context.Context) {
		var d appsv1.Deployment
		g.Expect(e.client.Get(ctx, e.operator, &d)).To(Succeed())
		g.Expect(d.Status.ObservedGeneration).To(Equal(d.Generation))
		g.Expect(d.Status.Replicas).To(Equal(replicas))
		g.Expect(d.Status.ReadyReplicas).To(Equal(replicas))
	}).WithContext(ctx).WithTimeout(nodeTimeout).Should(Succeed())
}

// release is one of the chart metastore, for its own namespace.
type release struct{ name, namespace string }

func (r release) deployment() string { return r.name + "-metastore-operator" }

func (r release) operator(ctx context.Context) *appsv1.Deployment {
	GinkgoHelper()
	d := &appsv1.Deployment{}
	Expect(env.client.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: r.deployment()}, d)).To(Succeed())
	return d
}

// apply installs or upgrades, and waits for the operator. The definitions belong
// to config/default before, which a user would not mix; hence the two flags.
func (r release) apply(ctx context.Context, arguments ...string) {
	GinkgoHelper()
	chart, err := filepath.Abs(filepath.Join("..", "charts", "metastore"))
	Expect(err).NotTo(HaveOccurred())
	repository, tag, ok := strings.Cut(env.operatorImage[strings.LastIndex(env.operatorImage, "/")+1:], ":")
	Expect(ok).To(BeTrue())
	registry := strings.TrimSuffix(env.operatorImage[:len(env.operatorImage)-len(repository+":"+tag)], "/")
	r.helm(ctx, append([]string{
		"upgrade", "--install", r.name, chart, "--take-ownership", "--force-conflicts", "--wait", "--timeout", "3m",
		"--set-string", "image.registry=" + registry + ",image.repository=" + repository + ",image.tag=" + tag,
		"--set", "replicas=1,watchNamespace=" + r.namespace,
	}, arguments...)...)
}

func (r release) remove(ctx context.Context) {
	GinkgoHelper()
	r.helm(ctx, "uninstall", r.name, "--ignore-not-found", "--wait")
}

func (r release) helm(ctx context.Context, arguments ...string) {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, mustGetenv("HELM"), append(arguments, "--namespace", r.namespace)...)
	home, err := os.MkdirTemp("", "helm") // no settings of whoever runs the suite
	Expect(err).NotTo(HaveOccurred())
	defer os.RemoveAll(home)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "helm %v: %s", arguments, out)
}

package e2e

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

// What becomes of clusters when something happens to the operator.
var _ = Describe("the operator", Ordered, func() {
	const replicas = 3
	var (
		namespace string
		c         *cluster
	)

	BeforeAll(func(ctx context.Context) {
		namespace = env.namespace(ctx)
		c = createCluster(ctx, namespace, "kept", v1alpha1.EngineRocksDB, replicas, lossy)
		c.untilReady(ctx)
	}, NodeTimeout(readyTimeout))
	JustAfterEach(func(ctx context.Context) { env.collectOnFailure(ctx, namespace) })

	It("is not needed when the leader dies, and makes good what was lost meanwhile", func(ctx context.Context) {
		w := startWriter(c.serviceClient(ctx), "alone/")
		w.expectProgress(ctx, 20)
		env.scaleOperator(ctx, 0)
		DeferCleanup(func(ctx context.Context) { env.scaleOperator(ctx, env.operatorReplicas) })

		before := c.memberIDs(ctx)
		leader := c.leader(ctx)
		pod := c.pod(ctx, leader)
		By("deleting the leader " + pod.Name + " with its volume")
		claim := &corev1.PersistentVolumeClaim{}
		Expect(env.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "data-" + pod.Name}, claim)).To(Succeed())
		Expect(env.client.Delete(ctx, claim)).To(Succeed())
		Expect(env.client.Delete(ctx, &pod, client.GracePeriodSeconds(0))).To(Succeed())
		w.expectProgress(ctx, 50)

		env.scaleOperator(ctx, 1)
		c.untilReplaced(ctx, before, leader)
		w.expectProgress(ctx, 20)
		w.checkAll(ctx, c.memberClient(ctx, leader))
		c.expectSameData(ctx, replicas)
	}, NodeTimeout(2*readyTimeout))

	It("goes on as another one when one of two is killed", func(ctx context.Context) {
		env.scaleOperator(ctx, 2)
		DeferCleanup(func(ctx context.Context) { env.scaleOperator(ctx, env.operatorReplicas) })
		holder := env.holder(ctx)
		By("killing " + holder)
		pod := &corev1.Pod{}
		pod.Namespace, pod.Name = env.operator.Namespace, holder
		Expect(env.client.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
		old := c.uids(ctx)
		c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) { object.Spec.Server.SnapshotCount = ptr.To(int64(20000)) })
		c.untilReady(ctx)
		for name, uid := range c.uids(ctx) {
			Expect(uid).NotTo(Equal(old[name]), "pod %s was not restarted", name)
		}
		Expect(env.holder(ctx)).NotTo(Equal(holder))
	}, NodeTimeout(2*readyTimeout))

	It("is upgraded without a member being restarted", func(ctx context.Context) {
		By("leaving the image to the operator")
		pods := c.uids(ctx)
		c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) { object.Spec.Image = "" })
		c.untilReady(ctx)
		set := c.set(ctx)
		var deployment appsv1.Deployment
		Expect(env.client.Get(ctx, env.operator, &deployment)).To(Succeed())
		args := deployment.Spec.Template.Spec.Containers[0].Args
		upgraded := deployment.DeepCopy()
		upgraded.Spec.Template.Spec.Containers[0].Args = append(append([]string{}, args...), "--server-image=metastore.invalid/metastore:99.0.0")
		Expect(env.client.Patch(ctx, upgraded, client.MergeFrom(&deployment))).To(Succeed())
		DeferCleanup(func(ctx context.Context) {
			base := upgraded.DeepCopy()
			upgraded.Spec.Template.Spec.Containers[0].Args = args
			Expect(env.client.Patch(ctx, upgraded, client.MergeFrom(base))).To(Succeed())
			env.untilOperator(ctx)
		})
		env.untilOperator(ctx)
		By("having the new operator make a pass")
		c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) { object.Spec.DeletionPolicy = v1alpha1.DeletionRetain })
		c.untilReady(ctx)
		Expect(c.uids(ctx)).To(Equal(pods))
		Expect(c.set(ctx).Generation).To(Equal(set.Generation), "the StatefulSet was changed")
	}, NodeTimeout(readyTimeout))
})

func (e *environment) untilOperator(ctx context.Context) {
	GinkgoHelper()
	_, err := e.kube(ctx, "", "-n", e.operator.Namespace, "rollout", "status", "deployment/"+e.operator.Name, "--timeout=120s")
	Expect(err).NotTo(HaveOccurred())
}

// holder is the pod of the operator that acts.
func (e *environment) holder(ctx context.Context) string {
	GinkgoHelper()
	var name string
	Eventually(func(g Gomega, ctx context.Context) {
		var lease coordinationv1.Lease
		g.Expect(e.client.Get(ctx, client.ObjectKey{Namespace: e.operator.Namespace, Name: "metastore-operator.metastore.io"}, &lease)).To(Succeed())
		name, _, _ = strings.Cut(ptr.Deref(lease.Spec.HolderIdentity, ""), "_")
		g.Expect(name).NotTo(BeEmpty())
	}).WithContext(ctx).WithTimeout(progressTimeout).Should(Succeed())
	return name
}

// leader is the ordinal of the leading member.
func (c *cluster) leader(ctx context.Context) int {
	GinkgoHelper()
	object, err := c.get(ctx)
	Expect(err).NotTo(HaveOccurred())
	for ordinal := range int(object.Spec.Replicas) {
		if object.Status.Leader == c.podName(ordinal) {
			return ordinal
		}
	}
	Fail("no leader in status: " + object.Status.Leader)
	return -1
}

func (c *cluster) set(ctx context.Context) *appsv1.StatefulSet {
	GinkgoHelper()
	set := &appsv1.StatefulSet{}
	Expect(c.env.client.Get(ctx, c.key, set)).To(Succeed())
	return set
}

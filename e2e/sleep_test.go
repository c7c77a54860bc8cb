package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

// expectSleepAndWake pauses the cluster, has a change wait for the end of that,
// and sends it to sleep instead; it wakes with the same members, which have what
// was acknowledged, and with the change.
func (c *cluster) expectSleepAndWake(ctx context.Context, replicas int) {
	GinkgoHelper()
	w := startWriter(c.serviceClient(ctx), "asleep/")
	w.expectProgress(ctx, 50)
	ids, pods := c.memberIDs(ctx), c.uids(ctx)
	By("pausing")
	c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) {
		object.Spec.Paused = true
		object.Spec.Server.SnapshotCount = ptr.To(int64(20000))
	})
	c.untilReason(ctx, v1alpha1.ConditionUpToDate, "SpecChanged")
	Expect(c.uids(ctx)).To(Equal(pods))
	w.end()
	By("going to sleep")
	c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) { object.Spec.Paused, object.Spec.Hibernated = false, true })
	c.untilReason(ctx, v1alpha1.ConditionReady, "Hibernated")
	Expect(c.uids(ctx)).To(BeEmpty())
	Expect(c.claims(ctx)).To(HaveLen(replicas))
	By("waking")
	c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) { object.Spec.Hibernated = false })
	c.untilReady(ctx)
	Expect(c.memberIDs(ctx)).To(Equal(ids))
	w.checkAll(ctx, c.memberClient(ctx, 0))
	c.expectSameData(ctx, replicas)
}

// untilReason waits until a condition of the newest spec has a reason.
func (c *cluster) untilReason(ctx context.Context, condition, reason string) {
	GinkgoHelper()
	Eventually(func(g Gomega, ctx context.Context) {
		object, err := c.get(ctx)
		g.Expect(err).NotTo(HaveOccurred())
		is := meta.FindStatusCondition(object.Status.Conditions, condition)
		g.Expect(is).NotTo(BeNil())
		g.Expect(is.ObservedGeneration).To(Equal(object.Generation))
		g.Expect(is.Reason).To(Equal(reason), "%+v", is)
	}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
}

// remove deletes the cluster and waits until nothing of it is left but volumes.
func (c *cluster) remove(ctx context.Context) {
	GinkgoHelper()
	object, err := c.get(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(env.client.Delete(ctx, object)).To(Succeed())
	Eventually(leftovers).WithContext(ctx).WithArguments(c.key.Namespace).WithTimeout(readyTimeout).Should(BeEmpty())
}

// claims are the names of the volume claims that nobody deletes.
func (c *cluster) claims(ctx context.Context) []string {
	GinkgoHelper()
	var list corev1.PersistentVolumeClaimList
	Expect(c.env.client.List(ctx, &list, client.InNamespace(c.key.Namespace))).To(Succeed())
	var out []string
	for _, claim := range list.Items {
		if claim.DeletionTimestamp == nil {
			out = append(out, claim.Name)
		}
	}
	return out
}

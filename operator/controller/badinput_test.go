package controller

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/utils/ptr"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
)

var _ = Describe("Bad input", func() {
	It("of a storage class is told, and the fix is taken at once", func(ctx SpecContext) {
		f := newFixture(ctx)
		f.startOperator()
		f.create(3, func(c *v1alpha1.MetaStoreCluster) { c.Spec.Storage.StorageClassName = ptr.To("nowhere") })
		f.awaitStalled(plan.ReasonClassMissing, "the storage class nowhere does not exist; name another one in spec.storage.storageClassName, or create it")
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Storage.StorageClassName = ptr.To("fixed") })
		f.awaitReady()
		Expect(condition(f.cluster().Status.Conditions, v1alpha1.ConditionStalled)).To(BeNil())
	})

	It("of an image is told, costs one member at most, and the fix is taken at once", func(ctx SpecContext) {
		f := newFixture(ctx)
		f.startOperator()
		f.create(3)
		f.awaitReady()
		ids := f.ids()
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "registry.test/metastore" + missingTag })
		f.awaitStalled(plan.ReasonPodRefused, "pod x-2 cannot get its image registry.test/metastore"+missingTag+"; name one that exists")
		Expect(f.cluster().Status.ReadyReplicas).To(BeEquivalentTo(2))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "registry.test/metastore:1" })
		f.awaitReady()
		Expect(f.ids()).To(Equal(ids))
		Expect(condition(f.cluster().Status.Conditions, v1alpha1.ConditionStalled)).To(BeNil())
	})

	It("of an image is left behind when it is taken away", func(ctx SpecContext) {
		f := newFixture(ctx)
		f.startOperator()
		f.create(1, func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "registry.test/metastore" + missingTag })
		f.awaitStalled(plan.ReasonPodRefused, "pod x-0 cannot get its image registry.test/metastore"+missingTag)
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "" })
		f.awaitReady()
		Expect(f.cluster().Status.Image).To(Equal("registry.test/metastore:1"))

		f.scale(3)
		f.awaitReady()
		before := f.pods()
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "other.test/metastore" + missingTag })
		f.awaitStalled(plan.ReasonPodRefused, "pod x-2 cannot get its image other.test/metastore"+missingTag)
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "" })
		f.awaitReady()
		Expect(f.cluster().Status.Image).To(Equal("registry.test/metastore:1"))
		for name, p := range f.pods() {
			Expect(p.Spec.Containers[0].Image).To(Equal("registry.test/metastore:1"), name)
			Expect(p.UID == before[name].UID).To(Equal(name != "x-2"), "only the pod that could not start is made anew: %s", name)
		}
	})
})

// awaitStalled waits until the cluster is stalled for a reason, in these words.
func (f *fixture) awaitStalled(reason, message string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		is := condition(f.cluster().Status.Conditions, v1alpha1.ConditionStalled)
		g.Expect(is).NotTo(BeNil(), "%+v", f.cluster().Status.Conditions)
		g.Expect(is.Reason).To(Equal(reason))
		g.Expect(is.Message).To(HavePrefix(message))
	}).WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(Succeed())
}

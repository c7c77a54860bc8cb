package controller

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
)

var _ = Describe("A cluster's policy", func() {
	var f *fixture
	BeforeEach(func(ctx SpecContext) {
		f = newFixture(ctx)
	})

	It("keeps a paused cluster as it is, and lets it go on afterwards", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1)
		f.awaitReady()
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Paused, c.Spec.Replicas = true, 3 })
		f.awaitReason(plan.ReasonPaused, "MembersMissing")
		Expect(meta.FindStatusCondition(f.cluster().Status.Conditions, v1alpha1.ConditionReconciling)).To(BeNil())
		before := len(f.fake.Changes())
		Consistently(f.fake.Changes).WithTimeout(time.Second).Should(HaveLen(before))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Paused = false })
		f.awaitReady()
	})

	It("hibernates a cluster and wakes it with the same members", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		ids, claims, before := f.ids(), f.claims(), len(f.fake.Changes())
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Hibernated = true })
		f.awaitReason(plan.ReasonHibernated)
		Expect(f.pods()).To(BeEmpty())
		Expect(slices.Sorted(maps.Keys(f.claims()))).To(Equal(slices.Sorted(maps.Keys(claims))))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Hibernated = false })
		f.awaitReady()
		Expect(f.ids()).To(Equal(ids))
		Expect(f.fake.Changes()[before:]).To(BeEmpty())
	})

	It("deletes the volumes with the cluster where the policy says so, and only then", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1, func(c *v1alpha1.MetaStoreCluster) { c.Spec.DeletionPolicy = v1alpha1.DeletionDelete })
		f.awaitReady()
		Expect(volumeOwners(f)).To(HaveLen(1))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.DeletionPolicy = v1alpha1.DeletionRetain })
		Eventually(volumeOwners).WithArguments(f).WithTimeout(patience).Should(BeEmpty())
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.DeletionPolicy = v1alpha1.DeletionDelete })
		Eventually(volumeOwners).WithArguments(f).WithTimeout(patience).Should(HaveLen(1))
		Expect(kube.Delete(ctx, f.cluster())).To(Succeed())
		Eventually(f.claims).WithTimeout(patience).Should(BeEmpty())
		Eventually(f.left).WithTimeout(patience).Should(BeEmpty())
	})

	It("waits between two restarts for as long as the update asks", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3, func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Update = &v1alpha1.UpdateSpec{MinReadySeconds: new(int32(2))}
		})
		f.awaitReady()
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Server = &v1alpha1.ServerSpec{SnapshotCount: new(int64(5000))}
		})
		Eventually(func() string {
			if o := f.cluster().Status.Operation; o != nil {
				return o.Step
			}
			return ""
		}).WithTimeout(patience).WithPolling(20 * time.Millisecond).Should(Equal("MinReadySeconds"))
		f.awaitReady()
		var readyAt []time.Time
		for _, p := range f.pods() {
			readyAt = append(readyAt, podFacts(&p).ReadyChangedAt)
		}
		slices.SortFunc(readyAt, time.Time.Compare)
		// The times have whole seconds.
		Expect(readyAt[1].Sub(readyAt[0])).To(BeNumerically(">=", 2*time.Second))
		Expect(readyAt[2].Sub(readyAt[1])).To(BeNumerically(">=", 2*time.Second))
	})
})

// volumeOwners are the owners of the volume of ordinal 0.
func volumeOwners(f *fixture) []metav1.OwnerReference {
	return f.claims()["data-x-0"].OwnerReferences
}

// awaitReason waits until Ready gives one of the reasons.
func (f *fixture) awaitReason(reasons ...string) {
	GinkgoHelper()
	Eventually(func(context.Context) string {
		c := f.cluster()
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.ObservedGeneration != c.Generation {
			return ""
		}
		return ready.Reason
	}).WithContext(f.ctx).WithTimeout(patience).Should(BeElementOf(reasons), func() string {
		return "events " + strings.Join(f.events.actions(), "\n")
	})
}

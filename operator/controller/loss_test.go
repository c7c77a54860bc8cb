package controller

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"

	"metastore.io/metastore/api/v1alpha1"
)

var _ = Describe("What is lost", func() {
	var f *fixture
	BeforeEach(func(ctx SpecContext) {
		f = newFixture(ctx)
	})

	It("is a local volume whose node was deleted, and is replaced elsewhere", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		before, old := len(f.fake.Changes()), f.claims()["data-x-2"].UID
		f.bind("x-1", nodeName) // a node that is there
		f.bind("x-2", "gone")
		pod := f.pods()["x-2"]
		nodes.hold(&pod, true)
		f.fake.Stop("x-2")
		f.unready(pod)
		Eventually(func() any { return f.claims()["data-x-2"].DeletionTimestamp }).WithTimeout(patience).ShouldNot(BeNil())
		nodes.hold(&pod, false)
		Eventually(func() any { return f.claims()["data-x-2"].UID }).WithTimeout(patience).ShouldNot(Equal(old))
		f.awaitReady()
		Expect(f.fake.Changes()[before:]).To(Equal([]string{"remove x-2", "add x-2", "promote x-2"}))
	})

	It("is given up by hand alone, where the spec says so", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3, func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Repair = &v1alpha1.RepairSpec{Mode: v1alpha1.RepairManual}
		})
		f.awaitReady()
		before, id := len(f.fake.Changes()), f.ids()["x-1"]
		f.lose("x-1")
		Eventually(func(g Gomega) {
			stalled := meta.FindStatusCondition(f.cluster().Status.Conditions, v1alpha1.ConditionStalled)
			g.Expect(stalled).NotTo(BeNil())
			g.Expect(stalled.Message).To(ContainSubstring("etcdctl member remove"))
		}).WithTimeout(patience).Should(Succeed())
		Expect(f.fake.Changes()[before:]).To(BeEmpty())
		Expect(f.fake.Remove(ctx, nil, parseMember(id))).To(Succeed())
		f.awaitReady()
		Expect(f.fake.Changes()[before:]).To(Equal([]string{"remove x-1", "add x-1", "promote x-1"}))
	})

	It("is a quorum, and the best of five is begun anew from once the user allows it", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(5)
		f.awaitReady()
		before := len(f.fake.Changes())
		f.fake.Lag("x-1", true)
		Expect(f.fake.Write(10)).To(BeTrue())
		f.lose("x-0", "x-2", "x-4")
		Eventually(func(g Gomega) {
			stalled := meta.FindStatusCondition(f.cluster().Status.Conditions, v1alpha1.ConditionStalled)
			g.Expect(stalled).NotTo(BeNil())
			g.Expect(stalled.Reason).To(Equal("QuorumLost"))
			g.Expect(stalled.Message).To(And(ContainSubstring("member 3 is the best"), ContainSubstring(v1alpha1.AnnotationRecoverQuorum)))
		}).WithTimeout(patience).Should(Succeed())
		Expect(f.fake.Changes()[before:]).To(BeEmpty())

		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Annotations = map[string]string{v1alpha1.AnnotationRecoverQuorum: "another"}
		})
		Consistently(func() []string { return f.fake.Changes()[before:] }).Should(BeEmpty())
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Annotations[v1alpha1.AnnotationRecoverQuorum] = f.name })
		Eventually(f.fake.Changes).WithTimeout(patience).Should(ContainElement("force x-3"))
		f.fake.Lag("x-1", false)
		f.awaitReady()
		Expect(f.fake.Changes()[before:]).To(Equal([]string{
			"force x-3", "add x-0", "promote x-0", "add x-1", "promote x-1", "add x-2", "promote x-2", "add x-4", "promote x-4",
		}))
		c := f.cluster()
		Expect(c.Annotations).NotTo(HaveKey(v1alpha1.AnnotationRecoverQuorum), "the permission is for once")
		r := c.Status.Recovery
		Expect(r).NotTo(BeNil())
		Expect(r.Survivor).To(Equal("x-3"))
		Expect(r.AllowedBy).To(Equal("Annotation"))
		Expect(r.Candidates).To(HaveLen(5))
		Expect(r.Candidates[1].LogIndex).To(BeNumerically("<", r.Candidates[3].LogIndex))
		Expect(r.Candidates[4].Finding).To(Equal("DataGone"))
		for _, claim := range f.claims() {
			Expect(claim.Annotations).NotTo(HaveKey(annotationRecovery))
		}
	})
})

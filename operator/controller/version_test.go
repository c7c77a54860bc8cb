package controller

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/member"
)

var _ = Describe("A cluster that names no version", func() {
	It("keeps the image that it began with when a later operator has another default", func(ctx SpecContext) {
		f := newFixture(ctx)
		f.create(1)
		f.passUntilReady()
		Expect(f.cluster().Status.Version).To(Equal(member.FakeVersion))
		image := func() string { return f.set().Spec.Template.Spec.Containers[0].Image }
		Expect(image()).To(Equal("registry.test/metastore:1"))
		Expect(f.cluster().Status.Image).To(Equal(image()))

		counted := counting(kube, f.fake)
		later := f.reconciler(counted, kube, counted.access())
		later.ServerImage = "registry.test/metastore:2"
		pass := func() {
			GinkgoHelper()
			_, err := later.Reconcile(ctx, request(f))
			Expect(err).NotTo(HaveOccurred())
		}
		pass()
		Expect(counted.calls()).To(BeEmpty())

		By("losing its StatefulSet")
		Expect(kube.Delete(ctx, f.set(), client.PropagationPolicy(metav1.DeletePropagationOrphan))).To(Succeed())
		Eventually(func() bool { return apierrors.IsNotFound(kube.Get(ctx, f.key(), &appsv1.StatefulSet{})) }).
			WithTimeout(patience).Should(BeTrue())
		// A pass takes one step, and waits where the StatefulSet's controller has not
		// seen the last one.
		passUntil := func(want string) {
			GinkgoHelper()
			Eventually(func() string {
				pass()
				set := &appsv1.StatefulSet{}
				if kube.Get(ctx, f.key(), set) != nil {
					return ""
				}
				return set.Spec.Template.Spec.Containers[0].Image
			}).WithTimeout(patience).Should(Equal(want))
		}
		passUntil("registry.test/metastore:1")

		By("naming one that no member has run, and none again")
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Version = "1.4.9" })
		passUntil("registry.test/metastore:1.4.9")
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Version = "" })
		passUntil("registry.test/metastore:1")

		By("naming one that all members run, and none again")
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Version = "1.4.9" })
		Eventually(func() string {
			pass()
			return f.cluster().Status.DefaultImage
		}).WithTimeout(patience).Should(Equal("registry.test/metastore:1.4.9"))
		Expect(f.pods()["x-0"].Spec.Containers[0].Image).To(Equal("registry.test/metastore:1.4.9"))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Version = "" })
		for range 10 {
			pass()
			Expect(image()).To(Equal("registry.test/metastore:1.4.9"))
		}
	})

	It("goes back from an image to the default one, in the version that its members run", func(ctx SpecContext) {
		f := newFixture(ctx)
		r := f.reconciler(kube, kube, f.fake)
		r.ServerImage = "registry.test/metastore:1.3.0" // its members say that they run 1.4.0
		passUntil := func(want string) {
			GinkgoHelper()
			Eventually(func() string {
				_, err := r.Reconcile(ctx, request(f))
				Expect(err).NotTo(HaveOccurred())
				if f.settled(f.cluster()) != "" {
					return ""
				}
				return f.cluster().Status.Image
			}).WithTimeout(patience).Should(Equal(want))
		}
		f.create(1)
		passUntil("registry.test/metastore:1.3.0")
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "other.test/metastore:1.4.0" })
		passUntil("other.test/metastore:1.4.0")
		Expect(f.cluster().Status.DefaultImage).To(Equal("registry.test/metastore:1.3.0"))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "" })
		passUntil("registry.test/metastore:1.4.0")
		Expect(f.cluster().Status.DefaultImage).To(Equal("registry.test/metastore:1.4.0"))
	})
})

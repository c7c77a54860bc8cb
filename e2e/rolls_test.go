package e2e

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

var _ = Describe("a change of the spec", Ordered, func() {
	const replicas = 3
	var (
		namespace string
		c         *cluster
		k         *checker
	)

	BeforeAll(func(ctx context.Context) {
		namespace = env.namespace(ctx)
		c = createCluster(ctx, namespace, "rolls", v1alpha1.EngineRocksDB, replicas)
		c.untilReady(ctx)
		k = c.startChecker(ctx, "checked/", replicas)
	}, NodeTimeout(readyTimeout))
	JustAfterEach(func(ctx context.Context) { env.collectOnFailure(ctx, namespace) })

	It("rolls resources, tuning, settings, pod template and probes without a failed request", func(ctx context.Context) {
		old := c.uids(ctx)
		c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) {
			object.Spec.Resources.Limits[corev1.ResourceMemory] = resource.MustParse("640Mi")
			object.Spec.RocksDB = &v1alpha1.RocksDBSpec{Profile: v1alpha1.RocksDBCustom, BloomBitsPerKey: ptr.To(int32(12))}
			object.Spec.Server = &v1alpha1.ServerSpec{SnapshotCount: ptr.To(int64(20000))}
			object.Spec.PodTemplate = &v1alpha1.PodTemplateOverlay{Metadata: &v1alpha1.PodMetadata{Labels: map[string]string{"team": "a"}},
				Probes: &v1alpha1.ProbesOverlay{Readiness: &v1alpha1.ProbeTiming{FailureThreshold: ptr.To(int32(2))}}}
		})
		tuning := c.untilReady(ctx).Status.EffectiveTuning
		Expect(tuning.RocksDB.BloomBitsPerKey).To(BeEquivalentTo(12))
		Expect(tuning.ConfirmedBy).To(BeEquivalentTo(replicas), "members that say so themselves")
		for name, uid := range c.uids(ctx) {
			Expect(uid).NotTo(Equal(old[name]), "pod %s was not restarted", name)
		}
		k.expectNoFailure("a roll")
		k.expectAllWatched(ctx)
	}, NodeTimeout(5*time.Minute))

	It("to an image that cannot be had stops at one member, says so, and is taken back at once", func(ctx context.Context) {
		ids := c.memberIDs(ctx)
		c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) { object.Spec.Image = "metastore.invalid/metastore:none" })
		c.untilReason(ctx, v1alpha1.ConditionStalled, "PodRefused")
		object, err := c.get(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(object.Status.ReadyReplicas).To(BeEquivalentTo(replicas - 1))
		c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) { object.Spec.Image = env.serverImage })
		c.untilReady(ctx)
		Expect(c.memberIDs(ctx)).To(Equal(ids))
		k.expectNoFailure("an image that cannot be had")
	}, NodeTimeout(readyTimeout))

	It("to another storage class moves the members one at a time, and nobody sees it", func(ctx context.Context) {
		k.end()
		// Of the Service: a new member is a learner first, which answers nobody who
		// knows it by its name.
		k := c.startChecker(ctx, "moved/", 0)
		class := env.anotherClass(ctx)
		before := c.memberIDs(ctx)
		kept := putKeys(ctx, c.serviceClient(ctx), "kept/")
		c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) { object.Spec.Storage.StorageClassName = &class })
		c.untilMoved(ctx, replicas)
		c.untilReplaced(ctx, before, 0, 1, 2)
		for ordinal := range replicas {
			var claim corev1.PersistentVolumeClaim
			Expect(env.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "data-" + c.podName(ordinal)}, &claim)).To(Succeed())
			Expect(claim.Spec.StorageClassName).To(HaveValue(Equal(class)), "the claim of member %d", ordinal)
		}
		k.expectNoFailure("another storage class")
		k.expectAllWatched(ctx)
		k.end()
		got, _ := keysOf(ctx, c.serviceClient(ctx), "kept/")
		Expect(got).To(Equal(kept))
		c.expectSameData(ctx, replicas)
	}, NodeTimeout(3*readyTimeout))
})

// anotherClass is the default storage class once more, under another name.
func (e *environment) anotherClass(ctx context.Context) string {
	GinkgoHelper()
	var classes storagev1.StorageClassList
	Expect(e.client.List(ctx, &classes)).To(Succeed())
	for i := range classes.Items {
		class := &classes.Items[i]
		if class.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" {
			continue
		}
		class.ObjectMeta = metav1.ObjectMeta{GenerateName: "e2e-"}
		Expect(e.client.Create(ctx, class)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(e.client.Delete(ctx, class)).To(Succeed()) })
		return class.Name
	}
	Fail("no storage class is the default")
	return ""
}

// untilMoved waits until the cluster lists none but members of other identities.
// Whenever it is asked meanwhile, at most one voter is missing.
func (c *cluster) untilMoved(ctx context.Context, replicas int) {
	GinkgoHelper()
	etcd := c.serviceClient(ctx)
	list, err := etcd.MemberList(ctx)
	Expect(err).NotTo(HaveOccurred())
	old := map[uint64]bool{}
	for _, m := range list.Members {
		old[m.ID] = true
	}
	Expect(old).To(HaveLen(replicas))
	Eventually(func(g Gomega, ctx context.Context) {
		asked, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		list, err := etcd.MemberList(asked)
		g.Expect(err).NotTo(HaveOccurred())
		voters, moved := 0, 0
		for _, m := range list.Members {
			if m.IsLearner {
				continue
			}
			voters++
			if !old[m.ID] {
				moved++
			}
		}
		if voters < replicas-1 || len(list.Members) > replicas {
			StopTrying(fmt.Sprintf("%d members are moved at a time: %v", 1+replicas-voters, list.Members)).Now()
		}
		g.Expect(moved).To(Equal(replicas))
	}).WithContext(ctx).WithTimeout(2 * readyTimeout).Should(Succeed())
}

// edit changes the spec as `kubectl edit` does.
func (c *cluster) edit(ctx context.Context, change func(*v1alpha1.MetaStoreCluster)) {
	GinkgoHelper()
	object, err := c.get(ctx)
	Expect(err).NotTo(HaveOccurred())
	base := object.DeepCopy()
	change(object)
	Expect(env.client.Patch(ctx, object, client.MergeFrom(base))).To(Succeed())
}

// uids tells the pods that there are apart from those of other times.
func (c *cluster) uids(ctx context.Context) map[string]types.UID {
	GinkgoHelper()
	pods, err := c.pods(ctx)
	Expect(err).NotTo(HaveOccurred())
	out := map[string]types.UID{}
	for _, pod := range pods {
		out[pod.Name] = pod.UID
	}
	return out
}

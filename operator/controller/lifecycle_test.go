package controller

import (
	"errors"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/resources"
)

var _ = Describe("A cluster", func() {
	var f *fixture
	BeforeEach(func(ctx SpecContext) {
		f = newFixture(ctx)
	})

	It("bootstraps from one seed, one learner after the other, and then writes nothing", func(ctx SpecContext) {
		f.ctx = ctx
		stop := f.startOperator()
		f.create(3)
		f.awaitReady()
		Expect(f.fake.Changes()).To(Equal([]string{"add x-1", "promote x-1", "add x-2", "promote x-2"}))
		status := f.cluster().Status
		Expect(status.ClusterID).To(Equal(formatID(f.fake.ClusterID())))
		Expect(status.Leader).To(Equal("x-0"))
		Expect(status.Operation).To(BeNil())
		Expect(conditionTypes(status.Conditions)).To(ConsistOf("Ready", "Available", "AllMembersReady", "UpToDate", "ConfigValid", "StorageHealthy"))
		settings := &corev1.ConfigMap{}
		Expect(kube.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: resources.MembersName(f.name)}, settings)).To(Succeed())
		Expect(settings.Data).To(HaveLen(3))
		for _, file := range settings.Data {
			Expect(file).To(ContainSubstring("initial-cluster-state: existing"), "a wiped seed must never begin an empty cluster")
		}
		for name, claim := range f.claims() {
			Expect(claim.Annotations[annotationMember]).To(Equal(f.ids()[strings.TrimPrefix(name, "data-")]))
		}
		stop()
		f.expectNothingWritten()
	})

	It("grows from 3 to 5 and shrinks to 3, moving the leader off what leaves", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		f.scale(5)
		f.awaitReady()
		leader := f.cluster()
		last := leader.Status.Members[4]
		Expect(f.fake.MoveLeader(ctx, resources.ClientURL(leader, 0, false), parseMember(last.ID))).To(Succeed())
		before := len(f.fake.Changes())
		f.scale(3)
		f.awaitReady()
		Expect(f.fake.Changes()[before:]).To(Equal([]string{"move x-0", "remove x-4", "remove x-3"}))
		Expect(f.claims()).To(HaveLen(3))
	})

	It("lets a lost pod come back as the same member", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		ids, before, pod := f.ids(), len(f.fake.Changes()), f.pods()["x-1"]
		Expect(kube.Delete(ctx, &pod)).To(Succeed())
		Eventually(func() types.UID { p := f.pods()["x-1"]; return p.UID }).WithTimeout(patience).ShouldNot(BeElementOf(pod.UID, types.UID("")))
		f.awaitReady()
		Expect(f.ids()).To(Equal(ids))
		Expect(f.fake.Changes()[before:]).To(BeEmpty())
	})

	DescribeTable("replaces a member whose data is gone, at the same ordinal", func(ctx SpecContext, pod string) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		ids, before := f.ids(), len(f.fake.Changes())
		claim := f.claims()["data-"+pod]
		f.fake.Wipe(string(claim.UID))
		f.fake.Stop(pod)
		Eventually(func() string { return f.ids()[pod] }).WithTimeout(patience).ShouldNot(BeElementOf(ids[pod], ""))
		f.awaitReady()
		changes := f.fake.Changes()[before:]
		Expect(changes).To(Equal([]string{"remove " + pod, "add " + pod, "promote " + pod}))
		Expect(f.claims()["data-"+pod].UID).NotTo(Equal(claim.UID))
		Expect(f.cluster().Status.ClusterID).To(Equal(formatID(f.fake.ClusterID())))
	},
		Entry("a follower", "x-1"),
		Entry("the seed, which leads", "x-0"),
	)

	It("rolls a change of the settings one pod at a time, the leader last", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		old := f.pods()
		before := len(f.events.actions())
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Server = &v1alpha1.ServerSpec{SnapshotCount: ptr.To(int64(5000))}
		})
		Eventually(func() bool {
			p := f.pods()["x-0"]
			return p.UID != "" && p.UID != old["x-0"].UID
		}).WithTimeout(patience).Should(BeTrue())
		f.awaitReady()
		for name, p := range f.pods() {
			Expect(p.UID).NotTo(Equal(old[name].UID))
		}
		Expect(restarts(f.events.actions()[before:])).To(Equal([]string{
			"DeletePod pod 2", "DeletePod pod 1", "MoveLeader member 0", "DeletePod pod 0",
		}))
	})

	It("keeps its volumes when it is deleted, and comes back with them", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		ids, before := f.ids(), len(f.fake.Changes())
		Expect(kube.Delete(ctx, f.cluster())).To(Succeed())
		Eventually(func() []string { return f.left() }).WithTimeout(patience).Should(BeEmpty())
		Expect(f.claims()).To(HaveLen(3))
		for _, c := range f.claims() {
			Expect(c.DeletionTimestamp).To(BeNil())
		}
		f.create(3)
		f.awaitReady()
		Expect(f.ids()).To(Equal(ids))
		Expect(f.fake.Changes()[before:]).To(BeEmpty())
	})

	It("grows its volumes without touching the pods", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1)
		f.awaitReady()
		pod, set := f.pods()["x-0"].UID, f.set().UID
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Storage.Size = resource.MustParse("2Gi") })
		Eventually(func(g Gomega) {
			s := &appsv1.StatefulSet{}
			g.Expect(kube.Get(ctx, f.key(), s)).To(Succeed())
			g.Expect(s.UID).NotTo(Equal(set))
		}).WithTimeout(patience).Should(Succeed())
		f.awaitReady()
		Expect(f.set().Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().String()).To(Equal("2Gi"))
		claim := f.claims()["data-x-0"]
		Expect(claim.Spec.Resources.Requests.Storage().String()).To(Equal("2Gi"))
		Expect(f.pods()["x-0"].UID).To(Equal(pod))
	})

	It("says so when a class cannot grow, and does the rest", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1, func(c *v1alpha1.MetaStoreCluster) { c.Spec.Storage.StorageClassName = ptr.To("fixed") })
		f.awaitReady()
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Storage.Size = resource.MustParse("2Gi")
			c.Spec.Replicas = 3
		})
		Eventually(func(g Gomega) {
			s := f.cluster().Status
			stalled := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionStalled)
			g.Expect(stalled).NotTo(BeNil())
			g.Expect(stalled.Reason).To(Equal("VolumeCannotGrow"))
			g.Expect(s.ReadyReplicas).To(BeEquivalentTo(3))
			g.Expect(s.Operation).To(BeNil())
		}).WithTimeout(patience).Should(Succeed())
	})

	It("reports a step that fails, and goes on when it can", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1)
		f.awaitReady()
		f.fake.Fail(func(call string) error {
			if call == "add" {
				return errors.New("the disk is on fire")
			}
			return nil
		})
		f.scale(3)
		Eventually(func(g Gomega) {
			s := f.cluster().Status
			ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
			g.Expect(ready.Status).To(Equal(metav1.ConditionFalse))
			g.Expect(ready.Message).To(ContainSubstring("the disk is on fire"))
			g.Expect(meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionAvailable)).To(BeTrue())
			g.Expect(s.ObservedGeneration).To(BeEquivalentTo(1), "a failed pass observed nothing")
		}).WithTimeout(patience).Should(Succeed())
		f.fake.Fail(nil)
		f.awaitReady()
	})

	It("is not taken for lost when the operator cannot see it", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		before := len(f.fake.Changes())
		f.fake.Fail(func(call string) error {
			if strings.HasPrefix(call, "look") {
				return errors.New("no route to host")
			}
			return nil
		})
		Eventually(func() metav1.ConditionStatus {
			return meta.FindStatusCondition(f.cluster().Status.Conditions, v1alpha1.ConditionAvailable).Status
		}).WithTimeout(patience).Should(Equal(metav1.ConditionUnknown))
		f.fake.Fail(nil)
		f.awaitReady()
		Expect(f.fake.Changes()[before:]).To(BeEmpty())
	})

	It("forgets a pod whose node does not exist any more, and waits for one that is silent", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1)
		f.awaitReady()
		old := f.pods()["x-0"]
		nodes.hold(&old, true)
		Expect(kube.Delete(ctx, &old)).To(Succeed())
		Consistently(func() types.UID { p := f.pods()["x-0"]; return p.UID }).WithTimeout(time.Second).Should(Equal(old.UID))
		moved := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}
		Expect(kube.Delete(ctx, moved)).To(Succeed())
		Eventually(func(g Gomega) {
			p := f.pods()["x-0"]
			base := p.DeepCopy()
			p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
			g.Expect(client.IgnoreNotFound(kube.Status().Patch(ctx, &p, client.MergeFrom(base)))).To(Succeed())
			g.Expect(f.pods()["x-0"].UID).NotTo(Equal(old.UID))
		}).WithTimeout(patience).Should(Succeed())
		Expect(kube.Create(ctx, newNode())).To(Succeed())
		f.awaitReady()
	})
})

// left lists what a deleted cluster leaves besides its claims.
func (f *fixture) left() []string {
	var out []string
	for _, list := range []client.ObjectList{
		&v1alpha1.MetaStoreClusterList{}, &corev1.PodList{}, &corev1.ServiceList{}, &policyv1.PodDisruptionBudgetList{},
	} {
		Expect(kube.List(f.ctx, list, client.InNamespace(f.namespace))).To(Succeed())
		Expect(meta.EachListItem(list, func(o runtime.Object) error {
			out = append(out, o.(client.Object).GetName())
			return nil
		})).To(Succeed())
	}
	settings := &corev1.ConfigMap{}
	err := kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: resources.MembersName(f.name)}, settings)
	if !apierrors.IsNotFound(err) {
		out = append(out, settings.Name)
	}
	return out
}

func conditionTypes(all []metav1.Condition) []string {
	var out []string
	for _, c := range all {
		out = append(out, c.Type)
	}
	return out
}

// restarts reduces events to the restarts and handovers in them.
func restarts(events []string) []string {
	var out []string
	for _, e := range events {
		fields := strings.Fields(e) // type, action, reason, then a sentence that begins with "pod N" or "member N"
		if fields[1] == "DeletePod" || fields[1] == "MoveLeader" {
			out = append(out, strings.Join([]string{fields[1], fields[3], fields[4]}, " "))
		}
	}
	return out
}

package controller

import (
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
	"metastore.io/metastore/operator/plan"
)

// settings are those of a backup to a bucket.
func settings() *v1alpha1.BackupSettings {
	var s v1alpha1.MetaStoreBackupSpec
	toStore(&s)
	s.BackoffLimit = ptr.To(int32(0))
	return &s.BackupSettings
}

func backedUp(c *v1alpha1.MetaStoreCluster) {
	c.Spec.DeletionPolicy, c.Spec.DeletionBackup = v1alpha1.DeletionBackup, settings()
}

// withStore starts everything, and makes the cluster.
func withStore(ctx SpecContext, change func(*v1alpha1.MetaStoreCluster)) *backups {
	GinkgoHelper()
	f := newBackups(ctx)
	f.secret("s3", v1alpha1.StoreKeyAccessKeyID, v1alpha1.StoreKeySecretAccessKey)
	f.start()
	f.startOperator()
	f.create(1, change)
	f.awaitReady()
	return f
}

func full(verb string) string { return map[string]string{"take": "DestinationFull"}[verb] }
func roomy(string) string     { return "" }

// untilClusterGone waits until neither the cluster nor its volume is left.
func (f *backups) untilClusterGone() {
	GinkgoHelper()
	Eventually(func() bool { return apierrors.IsNotFound(kube.Get(f.ctx, f.key(), &v1alpha1.MetaStoreCluster{})) }).
		WithTimeout(patience).WithPolling(50*time.Millisecond).Should(BeTrue(), func() string { return fmt.Sprintf("%v", f.events.actions()) })
}

var _ = Describe("A cluster that is backed up before it is deleted", func() {
	It("stays while that fails, and goes with its volumes once it is done", func(ctx SpecContext) {
		f := withStore(ctx, backedUp)
		Expect(f.cluster().Finalizers).To(ContainElement(v1alpha1.FinalizerBackup))
		Expect(f.claims()["data-x-0"].OwnerReferences).To(BeEmpty())
		f.store.change(full, nil)
		Expect(kube.Delete(ctx, f.cluster())).To(Succeed())
		f.awaitStalled(plan.ReasonLastBackupFailed, "the cluster is not deleted, since its last backup x-final-")
		Expect(f.pods()).To(HaveKey("x-0"))
		By("trying again")
		f.store.change(roomy, nil)
		for _, b := range f.list() {
			Expect(kube.Delete(ctx, &b)).To(Succeed())
		}
		f.untilClusterGone()
		Eventually(f.claims).WithTimeout(patience).Should(BeEmpty())
		list := f.list()
		Expect(list).To(HaveLen(1))
		Expect(outcomeOf(&list[0])).To(Equal(backup.Complete))
		Expect(f.store.artifacts).To(HaveLen(1))
	})

	It("goes without it under another policy, and leaves its volumes", func(ctx SpecContext) {
		f := withStore(ctx, backedUp)
		f.store.change(full, nil)
		Expect(kube.Delete(ctx, f.cluster())).To(Succeed())
		f.awaitStalled(plan.ReasonLastBackupFailed, "the cluster is not deleted")
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.DeletionPolicy = v1alpha1.DeletionRetain })
		f.untilClusterGone()
		Expect(f.claims()).To(HaveKey("data-x-0"))
	})

	It("keeps its volumes when somebody deletes what it owns first", func(ctx SpecContext) {
		f := withStore(ctx, backedUp)
		f.store.change(full, nil)
		Expect(kube.Delete(ctx, f.cluster(), client.PropagationPolicy(metav1.DeletePropagationForeground))).To(Succeed())
		f.awaitStalled(plan.ReasonLastBackupFailed, "the cluster is not deleted: no member runs that it could be backed up from")
		Expect(f.claims()["data-x-0"].DeletionTimestamp).To(BeNil())
	})
})

var _ = Describe("A cluster that is backed up before it gets another image", func() {
	It("keeps its image while that goes on or fails", func(ctx SpecContext) {
		f := withStore(ctx, func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Update = &v1alpha1.UpdateSpec{PreUpdateBackup: settings()}
		})
		image := func() string { p := f.pods()["x-0"]; return containerImage(&p.Spec) }
		old := image()
		By("leaving other changes alone")
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Server = &v1alpha1.ServerSpec{SnapshotCount: ptr.To(int64(7000))}
		})
		f.awaitReady()
		Expect(f.list()).To(BeEmpty())
		By("failing")
		f.store.change(full, nil)
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "registry.test/metastore:2" })
		f.awaitStalled(plan.ReasonUpdateBackupFailed, "members keep their image, since backup x-pre-update-")
		Expect(image()).To(Equal(old))
		By("going on")
		f.store.change(roomy, func(verb string) bool { return verb == "take" })
		for _, b := range f.list() {
			Expect(kube.Delete(ctx, &b)).To(Succeed())
		}
		Eventually(f.jobs).WithTimeout(patience).Should(HaveLen(1))
		Expect(image()).To(Equal(old))
		f.store.change(nil, func(string) bool { return false })
		f.awaitReady()
		Expect(image()).To(Equal("registry.test/metastore:2"))
		Eventually(func() *v1alpha1.LastBackupStatus { return f.cluster().Status.LastBackup }).WithTimeout(patience).Should(
			HaveField("Revision", BeEquivalentTo(42)))
		Expect(valueOf(lastBackupBytes.WithLabelValues(f.namespace, "x"))).To(Equal(100.0))
		f.expectNothingWritten()
	})
})

var _ = Describe("A cluster with schedules", func() {
	It("says whether its backups are current", func(ctx SpecContext) {
		f := withStore(ctx, func(*v1alpha1.MetaStoreCluster) {})
		Expect(condition(f.cluster().Status.Conditions, v1alpha1.ConditionBackupCurrent)).To(BeNil())
		s := &v1alpha1.MetaStoreBackupSchedule{
			ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "s", Annotations: map[string]string{v1alpha1.AnnotationBackupNow: "a"}},
			Spec: v1alpha1.MetaStoreBackupScheduleSpec{Schedule: "0 0 1 1 *", Template: v1alpha1.BackupTemplate{Spec: v1alpha1.MetaStoreBackupSpec{
				ClusterRef: v1alpha1.ClusterRef{Name: f.name}, BackupSettings: *settings(),
			}}},
		}
		Expect(kube.Create(ctx, s)).To(Succeed())
		f.untilCurrent(metav1.ConditionTrue, "Current")
		Expect(f.cluster().Status.LastBackup.Name).To(HavePrefix("s-now-"))
		s.Spec.Schedule = "99 * * * *"
		Expect(kube.Patch(ctx, s, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"schedule":"99 * * * *"}}`)))).To(Succeed())
		f.untilCurrent(metav1.ConditionFalse, "ScheduleInvalid")
		Expect(kube.Delete(ctx, s)).To(Succeed())
		Eventually(func() *metav1.Condition {
			return condition(f.cluster().Status.Conditions, v1alpha1.ConditionBackupCurrent)
		}).
			WithTimeout(patience).Should(BeNil())
	})
})

func (f *backups) untilCurrent(status metav1.ConditionStatus, reason string) {
	GinkgoHelper()
	Eventually(func() *metav1.Condition {
		return condition(f.cluster().Status.Conditions, v1alpha1.ConditionBackupCurrent)
	}).
		WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(HaveValue(SatisfyAll(HaveField("Status", status), HaveField("Reason", reason))))
}

var _ = Describe("A cluster whose operator dies after each call", func() {
	It("is backed up once before another image, and once before its end", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.secret("s3", v1alpha1.StoreKeyAccessKeyID, v1alpha1.StoreKeySecretAccessKey)
		f.startThose(false)
		f.create(1, backedUp, func(c *v1alpha1.MetaStoreCluster) { c.Spec.Update = &v1alpha1.UpdateSpec{PreUpdateBackup: settings()} })
		f.passUntilReady()
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "registry.test/metastore:2" })
		died := f.passUntilReady()
		Expect(died).To(ContainElement(HavePrefix("create x-pre-update-")))
		Expect(f.list()).To(HaveLen(1))
		Expect(kube.Delete(ctx, f.cluster())).To(Succeed())
		died = nil
		Eventually(func() bool {
			if after := f.pass(); after != "" {
				died = append(died, after)
			}
			return apierrors.IsNotFound(kube.Get(ctx, f.key(), &v1alpha1.MetaStoreCluster{}))
		}).WithTimeout(patience).WithPolling(20*time.Millisecond).Should(BeTrue(), func() string { return fmt.Sprintf("%v", died) })
		Expect(died).To(ContainElements(HavePrefix("create x-final-"), Equal("patch data-x-0"), Equal("patch x")))
		Expect(f.list()).To(HaveLen(2))
		Expect(f.store.artifacts).To(HaveLen(2))
	})
})

package controller

import (
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/restore"
)

// restorer is one operator's worth of restoring, with clocks made for tests.
func (f *fixture) restorer(c client.Client, live client.Reader) *RestoreReconciler {
	pace := f.reconciler(c, live, f.fake).Pace
	return &RestoreReconciler{
		Client: c, Live: live, Events: f.events, ServerImage: "registry.test/metastore:1", Pace: pace, Now: time.Now,
		Limits: restore.Limits{MissingTimeout: time.Second, StopTimeout: patience, StartTimeout: patience, ServeTimeout: f.serveTimeout, JobTimeout: patience},
	}
}

// volumeOf makes a claim with backups.
func (f *fixture) volumeOf(name string) v1alpha1.BackupDestination {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	Expect(kube.Create(f.ctx, claim)).To(Succeed())
	return v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{ClaimName: name}}
}

// restore makes a restore named r of an artifact.
func (f *fixture) restore(mode v1alpha1.RestoreMode, change ...func(*v1alpha1.MetaStoreRestoreSpec)) {
	GinkgoHelper()
	r := &v1alpha1.MetaStoreRestore{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "r"},
		Spec:       v1alpha1.MetaStoreRestoreSpec{Mode: mode, ClusterName: f.name},
	}
	if mode != v1alpha1.RestoreNewCluster {
		r.Spec.ConfirmClusterName = f.name
	}
	if mode != v1alpha1.RestoreForceNewCluster {
		claim := &corev1.PersistentVolumeClaim{}
		if err := kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: "backups"}, claim); apierrors.IsNotFound(err) {
			f.volumeOf("backups")
		}
		to := v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{ClaimName: "backups"}}
		r.Spec.Source = &v1alpha1.RestoreSource{Artifact: &v1alpha1.ArtifactSource{Destination: to, Name: "a/b/c"}}
	}
	for _, fn := range change {
		fn(&r.Spec)
	}
	Expect(kube.Create(f.ctx, r)).To(Succeed())
}

func (f *fixture) restored() *v1alpha1.MetaStoreRestore {
	r := &v1alpha1.MetaStoreRestore{}
	Expect(kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: "r"}, r)).To(Succeed())
	return r
}

// awaitRestore waits for the end of the restore and returns its reason.
func (f *fixture) awaitRestore(outcome string) *metav1.Condition {
	GinkgoHelper()
	Eventually(func() bool {
		return meta.IsStatusConditionTrue(f.restored().Status.Conditions, outcome) && !held(f.restored())
	}).WithTimeout(patience).WithPolling(50*time.Millisecond).Should(BeTrue(), func() string {
		return fmt.Sprintf("restore %+v\ncluster %+v\nchanges %v\nevents %v", f.restored().Status, f.cluster().Status, f.fake.Changes(), f.events.actions())
	})
	return condition(f.restored().Status.Conditions, outcome)
}

func (f *fixture) steps() []v1alpha1.RestoreStepName {
	var out []v1alpha1.RestoreStepName
	for _, s := range f.restored().Status.Steps {
		Expect(s.CompletedAt).NotTo(BeNil())
		out = append(out, s.Name)
	}
	return out
}

func beginsWith(name string) func(*v1alpha1.MetaStoreCluster) {
	return func(c *v1alpha1.MetaStoreCluster) { c.Spec.Bootstrap = &v1alpha1.BootstrapSpec{Restore: name} }
}

// joined are the changes with which two learners join.
var joined = []string{"add x-1", "promote x-1", "add x-2", "promote x-2"}

var _ = Describe("A restore", func() {
	var f *fixture
	BeforeEach(func(ctx SpecContext) {
		f = newFixture(ctx)
		f.reads(artifact{})
	})

	DescribeTable("fills a new cluster, whichever comes first", func(ctx SpecContext, clusterFirst bool) {
		f.ctx = ctx
		f.startOperator()
		if clusterFirst {
			f.create(3, beginsWith("r"))
			Eventually(func() string {
				if c := condition(f.cluster().Status.Conditions, v1alpha1.ConditionReady); c != nil {
					return c.Reason
				}
				return ""
			}).WithTimeout(patience).Should(Equal(plan.ReasonAwaitingRestore))
			Expect(f.claims()).To(BeEmpty())
			f.restore(v1alpha1.RestoreNewCluster)
		} else {
			f.restore(v1alpha1.RestoreNewCluster)
			f.create(3, beginsWith("r"))
		}
		f.awaitReady()
		Expect(f.awaitRestore(v1alpha1.ConditionComplete).Reason).To(Equal("Restored"))
		Expect(f.fake.Changes()).To(Equal(append([]string{"restore x-0"}, joined...)))
		Expect(f.steps()).To(Equal([]v1alpha1.RestoreStepName{"Prepare", "Verify", "Fill", "Start", "Finish"}))
		Expect(f.restored().Status.Revision).To(Equal(5 + v1alpha1.DefaultRevisionBump))
		Expect(f.cluster().Status.Revision).To(BeNumerically(">=", 5+v1alpha1.DefaultRevisionBump))
		for _, claim := range f.claims() {
			Expect(claim.Annotations).NotTo(HaveKey(plan.AnnotationRestore))
			Expect(claim.Annotations[annotationToken]).To(ContainSubstring(string(f.restored().UID)))
		}
		Expect(f.jobs()).To(BeEmpty(), "their pods would hold the volumes")
		Expect(kube.Delete(ctx, f.restored())).To(Succeed())
		f.expectNothingWritten()
	},
		Entry("the cluster", true),
		Entry("the restore", false),
	)

	It("gives a cluster what it had, in place, and replaces the others only then", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		Expect(f.fake.Write(1000)).To(BeTrue())
		before, id, claims := len(f.fake.Changes()), f.cluster().Status.ClusterID, f.claims()
		f.restore(v1alpha1.RestoreInPlace)
		Expect(f.awaitRestore(v1alpha1.ConditionComplete).Reason).To(Equal("Restored"))
		f.awaitReady()
		Expect(f.fake.Changes()[before:]).To(Equal(append([]string{"restore x-0", "finish"}, joined...)))
		Expect(f.steps()).To(Equal([]v1alpha1.RestoreStepName{"Prepare", "Verify", "Stop", "Fill", "Start", "Finish"}))
		Expect(f.cluster().Status.ClusterID).NotTo(Equal(id))
		Expect(f.claims()["data-x-0"].UID).To(Equal(claims["data-x-0"].UID))
		Expect(f.claims()["data-x-1"].UID).NotTo(Equal(claims["data-x-1"].UID))
		Expect(f.asked("verify")).To(ContainElement("--cluster-id=" + id))
		Expect(f.asked("restore")).To(ContainElement("--bump-revision=1000000000"))
	})

	DescribeTable("is refused before anything is touched", func(ctx SpecContext, reason string, prepare func(), change func(*v1alpha1.MetaStoreRestoreSpec)) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		before, pods := len(f.fake.Changes()), f.pods()
		prepare()
		f.restore(v1alpha1.RestoreInPlace, change)
		Expect(f.awaitRestore(v1alpha1.ConditionFailed).Reason).To(Equal(reason))
		Expect(condition(f.restored().Status.Conditions, v1alpha1.ConditionStalled).Reason).To(Equal(reason))
		Expect(f.events.actions()).To(ContainElement(HavePrefix("Warning Stalled " + reason)))
		Expect(f.fake.Changes()[before:]).To(BeEmpty())
		for name, pod := range f.pods() {
			Expect(pod.UID).To(Equal(pods[name].UID))
		}
		for _, claim := range f.claims() {
			Expect(claim.Annotations).NotTo(HaveKey(plan.AnnotationRestore))
		}
		Expect(f.settled(f.cluster())).To(BeEmpty())
	},
		Entry("when the artifact is damaged", "Corrupt",
			func() { f.reads(artifact{refuse: map[string]string{"verify": "Corrupt"}}) },
			func(*v1alpha1.MetaStoreRestoreSpec) {}),
		Entry("when nobody gives the key", "WrongKey",
			func() { f.reads(artifact{encryption: "age"}) },
			func(*v1alpha1.MetaStoreRestoreSpec) {}),
		Entry("when revisions would go back", "RevisionBehind",
			func() { Expect(f.fake.Write(1000)).To(BeTrue()); f.awaitRevision(1000) },
			func(s *v1alpha1.MetaStoreRestoreSpec) { s.RevisionBump = ptr.To(int64(10)) }),
	)

	It("waits for what is missing, and says so", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1)
		f.awaitReady()
		f.restore(v1alpha1.RestoreInPlace, func(s *v1alpha1.MetaStoreRestoreSpec) {
			s.Encryption = &v1alpha1.BackupEncryption{SecretRef: v1alpha1.SecretRef{Name: "age"}}
		})
		Expect(f.awaitRestoreStalled("SecretMissing")).To(Equal("Secret age with the key identity does not exist"))
		Expect(f.jobs()).To(BeEmpty())
		Expect(kube.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "age"}, StringData: map[string]string{"identity": "AGE-SECRET-KEY-1"},
		})).To(Succeed())
		f.awaitRestore(v1alpha1.ConditionComplete)
	})

	It("reads no volume that the first member's node does not reach, and stops nobody for it", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1)
		f.awaitReady()
		pods := f.pods()
		f.volumeOf("backups")
		f.volumeOf("copy")
		f.bind("x-0", nodeName)
		f.bindClaim("backups", "node-2")
		f.bindClaim("copy", nodeName)
		f.restore(v1alpha1.RestoreInPlace)
		Expect(f.awaitRestoreStalled("VolumesApart")).To(Equal("no node reaches both the volume of claim backups, which is read, and that of claim data-x-0, which is filled; " +
			"copy what is to be restored to a volume that the first member's node reaches, or into a bucket"))
		Expect(f.jobs()).To(BeEmpty())
		Expect(f.pods()["x-0"].UID).To(Equal(pods["x-0"].UID))
		Expect(kube.Delete(ctx, f.restored())).To(Succeed())
		f.awaitNoRestore()

		f.restore(v1alpha1.RestoreInPlace, func(s *v1alpha1.MetaStoreRestoreSpec) {
			s.Source.Artifact.Destination.PVC.ClaimName = "copy"
		})
		f.awaitRestore(v1alpha1.ConditionComplete)
		f.awaitReady()
	})

	It("takes a MetaStoreBackup once it is Complete, with its key", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1)
		f.awaitReady()
		Expect(kube.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "age"}, StringData: map[string]string{"identity": "AGE-SECRET-KEY-1"},
		})).To(Succeed())
		f.restore(v1alpha1.RestoreInPlace, func(s *v1alpha1.MetaStoreRestoreSpec) {
			s.Source = &v1alpha1.RestoreSource{BackupRef: &v1alpha1.BackupRef{Name: "nightly"}}
		})
		f.awaitRestoreStalled("BackupMissing")
		b := &v1alpha1.MetaStoreBackup{
			ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "nightly"},
			Spec: v1alpha1.MetaStoreBackupSpec{ClusterRef: v1alpha1.ClusterRef{Name: f.name}, BackupSettings: v1alpha1.BackupSettings{
				Destination: v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{ClaimName: "backups", SubPath: "a"}},
				Encryption:  &v1alpha1.BackupEncryption{SecretRef: v1alpha1.SecretRef{Name: "age"}},
			}},
		}
		Expect(kube.Create(ctx, b)).To(Succeed())
		f.awaitRestoreStalled("BackupIncomplete")
		f.endBackup("nightly", v1alpha1.ConditionComplete)
		f.awaitRestore(v1alpha1.ConditionComplete)
		Expect(f.asked("restore")).To(ContainElements("a/"+f.namespace+"/x/nightly", "--from=/backup", "--age-identity-file=/etc/metastore/age/identity"))
	})

	DescribeTable("backs the cluster up first, where it is asked to", func(ctx SpecContext, backup, outcome, reason string) {
		f.ctx = ctx
		f.startOperator()
		f.create(1)
		f.awaitReady()
		before := len(f.fake.Changes())
		f.restore(v1alpha1.RestoreInPlace, func(s *v1alpha1.MetaStoreRestoreSpec) {
			s.PreRestoreBackup = &v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{ClaimName: "before"}}
		})
		name := preRestoreBackupName(f.restored())
		b := &v1alpha1.MetaStoreBackup{}
		Eventually(func() error { return kube.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, b) }).WithTimeout(patience).Should(Succeed())
		Expect(b.Spec.ClusterRef.Name).To(Equal(f.name))
		Expect(b.Spec.Destination.PVC.ClaimName).To(Equal("before"))
		Expect(b.OwnerReferences).To(BeEmpty(), "it outlives the restore")
		Expect(f.fake.Changes()[before:]).To(BeEmpty())
		f.endBackup(name, backup)
		Expect(f.awaitRestore(outcome).Reason).To(Equal(reason))
		if outcome == v1alpha1.ConditionFailed {
			Expect(f.fake.Changes()[before:]).To(BeEmpty())
		}
		f.awaitReady()
	},
		Entry("and goes on then", v1alpha1.ConditionComplete, v1alpha1.ConditionComplete, "Restored"),
		Entry("and touches nothing when that fails", v1alpha1.ConditionFailed, v1alpha1.ConditionFailed, "PreRestoreBackupFailed"),
	)

	It("is undone when the restored member does not serve", func(ctx SpecContext) {
		f.ctx, f.serveTimeout = ctx, time.Second
		f.startOperator()
		f.create(3)
		f.awaitReady()
		before, ids, id := len(f.fake.Changes()), f.ids(), f.cluster().Status.ClusterID
		f.reads(artifact{broken: true})
		f.restore(v1alpha1.RestoreInPlace)
		failed := f.awaitRestore(v1alpha1.ConditionFailed)
		Expect(failed.Reason).To(Equal("NotServing"))
		Expect(failed.Message).To(ContainSubstring("starts again from what it had"))
		f.awaitReady()
		Expect(f.fake.Changes()[before:]).To(Equal([]string{"restore x-0", "undo x-0"}))
		Expect(f.ids()).To(Equal(ids))
		Expect(f.cluster().Status.ClusterID).To(Equal(id))
	})

	Context("of a backup from before root's password was changed", func() {
		BeforeEach(func(ctx SpecContext) {
			f.ctx = ctx
			f.writePassword("present")
			f.reads(artifact{password: "past"})
		})

		It("serves once the Secret has that password, which may be changed then", func(ctx SpecContext) {
			f.ctx = ctx
			f.startOperator()
			f.create(1, withAuth)
			f.expectUsers("present")
			f.restore(v1alpha1.RestoreInPlace)
			Eventually(func() string { return f.condition(v1alpha1.ConditionAuthReady) }).WithTimeout(patience).Should(HavePrefix("False CredentialsRefused"))
			f.writePassword("past")
			Expect(f.awaitRestore(v1alpha1.ConditionComplete).Reason).To(Equal("Restored"))
			f.expectUsers("past")
			f.writePassword("present")
			f.expectUsers("present")
		})

		It("is undone when nobody brings that password, and says what to do", func(ctx SpecContext) {
			f.ctx, f.serveTimeout = ctx, 3*time.Second
			f.startOperator()
			f.create(1, withAuth)
			f.expectUsers("present")
			id := f.cluster().Status.ClusterID
			f.restore(v1alpha1.RestoreInPlace)
			failed := f.awaitRestore(v1alpha1.ConditionFailed)
			Expect(failed.Reason).To(Equal("PasswordUnknown"))
			Expect(failed.Message).To(And(ContainSubstring("write that one into the Secret of spec.auth.rootCredentialsSecretRef"), HaveSuffix("starts again from what it had")))
			f.expectUsers("present")
			Expect(f.cluster().Status.ClusterID).To(Equal(id))
		})
	})

	It("is undone when it is deleted in the midst of it", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		ids := f.ids()
		f.reads(artifact{hang: "restore"})
		f.restore(v1alpha1.RestoreInPlace)
		Eventually(func() types.UID { return f.jobs()["r-fill"].UID }).WithTimeout(patience).ShouldNot(BeEmpty())
		Expect(f.pods()).To(BeEmpty(), "the volume is written while nobody runs")
		Expect(kube.Delete(ctx, f.restored())).To(Succeed())
		f.awaitNoRestore()
		f.awaitReady()
		Expect(f.ids()).To(Equal(ids))
	})

	It("takes up another image when that of its Job cannot be had", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1, beginsWith("r"), func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "registry.test/metastore" + missingTag })
		f.restore(v1alpha1.RestoreNewCluster)
		Eventually(func() string {
			if c := condition(f.restored().Status.Conditions, v1alpha1.ConditionReady); c != nil {
				return c.Message
			}
			return ""
		}).WithTimeout(patience).Should(ContainSubstring("no such image"))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "registry.test/metastore:there" })
		f.awaitReady()
		Expect(f.awaitRestore(v1alpha1.ConditionComplete).Reason).To(Equal("Restored"))
	})

	It("stands still while its cluster is paused", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(1)
		f.awaitReady()
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Paused = true })
		f.restore(v1alpha1.RestoreInPlace)
		Eventually(func() string {
			if c := condition(f.restored().Status.Conditions, v1alpha1.ConditionReady); c != nil {
				return c.Reason
			}
			return ""
		}).WithTimeout(patience).Should(Equal("Paused"))
		Expect(f.jobs()).To(BeEmpty())
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Paused = false })
		f.awaitRestore(v1alpha1.ConditionComplete)
		f.awaitReady()
	})

	It("begins a cluster without a quorum anew", func(ctx SpecContext) {
		f.ctx = ctx
		f.startOperator()
		f.create(3)
		f.awaitReady()
		before := len(f.fake.Changes())
		f.lose("x-0", "x-1")
		Eventually(func() bool {
			return meta.IsStatusConditionTrue(f.cluster().Status.Conditions, v1alpha1.ConditionAvailable)
		}).
			WithTimeout(patience).Should(BeFalse())
		f.restore(v1alpha1.RestoreForceNewCluster)
		Expect(f.awaitRestore(v1alpha1.ConditionComplete).Reason).To(Equal("Recovered"))
		f.awaitReady()
		Expect(f.fake.Changes()[before:]).To(Equal([]string{"force x-2", "add x-0", "promote x-0", "add x-1", "promote x-1"}))
		Expect(f.cluster().Annotations).NotTo(HaveKey(v1alpha1.AnnotationRecoverQuorum))
	})
})

// awaitRestoreStalled waits until the restore is stalled for a reason and returns what it says.
func (f *fixture) awaitRestoreStalled(reason string) (message string) {
	GinkgoHelper()
	Eventually(func() string {
		c := condition(f.restored().Status.Conditions, v1alpha1.ConditionStalled)
		if c == nil {
			return ""
		}
		message = c.Message
		return c.Reason
	}).WithTimeout(patience).Should(Equal(reason))
	return message
}

// endBackup ends a backup as its own controller would.
func (f *fixture) endBackup(name, outcome string) {
	GinkgoHelper()
	b := &v1alpha1.MetaStoreBackup{}
	Expect(kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, b)).To(Succeed())
	base := b.DeepCopy()
	meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: outcome, Status: metav1.ConditionTrue, Reason: "Ended", Message: "it has ended"})
	Expect(kube.Status().Patch(f.ctx, b, client.MergeFrom(base))).To(Succeed())
}

// awaitNoRestore waits until the restore is gone, and its Jobs with it.
func (f *fixture) awaitNoRestore() {
	GinkgoHelper()
	Eventually(func() bool {
		err := kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: "r"}, &v1alpha1.MetaStoreRestore{})
		return apierrors.IsNotFound(err) && len(f.jobs()) == 0
	}).WithTimeout(patience).Should(BeTrue())
}

// awaitRevision waits until the cluster has told of a revision.
func (f *fixture) awaitRevision(atLeast int64) {
	GinkgoHelper()
	Eventually(func() int64 { return f.cluster().Status.Revision }).WithTimeout(patience).Should(BeNumerically(">=", atLeast))
}

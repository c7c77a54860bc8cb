package controller

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
	"metastore.io/metastore/operator/resources"
)

// backups is a fixture with a store for backups. Its cluster is there by its
// status alone.
type backups struct {
	*fixture
	store *store
}

func newBackups(ctx context.Context) *backups {
	GinkgoHelper()
	b := &backups{fixture: newFixture(ctx), store: newStore()}
	nodes.runs(b.namespace, b.store.run)
	return b
}

// serves makes the cluster appear as one that serves, with a pod that nobody runs.
func (f *backups) serves(change ...func(*v1alpha1.MetaStoreCluster)) {
	GinkgoHelper()
	f.create(1, change...)
	c := f.cluster()
	c.Status.ClusterID, c.Status.Image = "c1", "registry.test/metastore:1"
	meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionTrue, Reason: "QuorumServes"})
	Expect(kube.Status().Update(f.ctx, c)).To(Succeed())
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: resources.PodName(f.name, 0), Labels: resources.SelectorLabels(f.name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: resources.Container, Image: "test"}}},
	}
	Expect(kube.Create(f.ctx, pod)).To(Succeed())
}

func (f *backups) limits() backup.Limits {
	return backup.Limits{Inputs: 3 * time.Second, Deletion: 4 * time.Second, Overtime: time.Second}
}

func (f *backups) reconcilers(c client.Client, live client.Reader) (*BackupReconciler, *ScheduleReconciler) {
	pace := f.reconciler(c, live, nil).Pace
	return &BackupReconciler{Client: c, Live: live, Events: f.events, ServerImage: "registry.test/metastore:1", Limits: f.limits(), Pace: pace, Now: time.Now},
		&ScheduleReconciler{Client: c, Live: live, Events: f.events, Pace: pace, Now: time.Now}
}

// start runs the controllers of backups and of schedules with the rights that they
// are shipped with.
func (f *backups) start() {
	GinkgoHelper()
	f.startThose(true)
}

func (f *backups) startThose(schedules bool) {
	GinkgoHelper()
	mgr, err := ctrl.NewManager(shipped, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Cache: CacheOptions(f.namespace),
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
	})
	Expect(err).NotTo(HaveOccurred())
	b, s := f.reconcilers(mgr.GetClient(), mgr.GetAPIReader())
	Expect(b.SetupWithManager(mgr)).To(Succeed())
	if schedules {
		Expect(s.SetupWithManager(mgr)).To(Succeed())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	DeferCleanup(func() {
		cancel()
		Expect(<-ended).To(Succeed())
	})
}

func toClaim(name string, create bool) v1alpha1.BackupDestination {
	d := &v1alpha1.PVCDestination{ClaimName: name}
	if create {
		d.Create = &v1alpha1.CreatedClaim{Size: resource.MustParse("1Gi"), StorageClassName: ptr.To("fixed")}
	}
	return v1alpha1.BackupDestination{PVC: d}
}

func (f *backups) take(name string, change ...func(*v1alpha1.MetaStoreBackupSpec)) *v1alpha1.MetaStoreBackup {
	GinkgoHelper()
	b := &v1alpha1.MetaStoreBackup{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name},
		Spec: v1alpha1.MetaStoreBackupSpec{
			ClusterRef:     v1alpha1.ClusterRef{Name: f.name},
			BackupSettings: v1alpha1.BackupSettings{Destination: toClaim("backups", true)},
		},
	}
	for _, fn := range change {
		fn(&b.Spec)
	}
	Expect(kube.Create(f.ctx, b)).To(Succeed())
	return b
}

func (f *backups) get(name string) *v1alpha1.MetaStoreBackup {
	GinkgoHelper()
	b := &v1alpha1.MetaStoreBackup{}
	Expect(kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, b)).To(Succeed())
	return b
}

// untilEnd waits for the end of a backup.
func (f *backups) untilEnd(name string, want backup.Outcome) *v1alpha1.MetaStoreBackup {
	GinkgoHelper()
	Eventually(func() backup.Outcome { return outcomeOf(f.get(name)) }).WithTimeout(patience).WithPolling(50*time.Millisecond).
		Should(Equal(want), func() string { return fmt.Sprintf("%+v\n%v", f.get(name).Status, f.events.actions()) })
	return f.get(name)
}

// untilFailed waits for the end of a backup that fails for a reason.
func (f *backups) untilFailed(name, reason, message string) {
	GinkgoHelper()
	b := f.untilEnd(name, backup.Failed)
	for _, t := range []string{v1alpha1.ConditionFailed, v1alpha1.ConditionStalled, v1alpha1.ConditionReady} {
		c := condition(b.Status.Conditions, t)
		Expect(c).NotTo(BeNil(), t)
		Expect(c.Reason).To(Equal(reason), "%+v", c)
		Expect(c.Message).To(ContainSubstring(message))
	}
	Expect(condition(b.Status.Conditions, v1alpha1.ConditionReconciling)).To(BeNil())
	Expect(b.Status.CompletedAt).NotTo(BeNil())
	Eventually(f.events.actions).WithTimeout(patience).Should(ContainElement(HavePrefix("Warning Backup " + reason + ": ")))
}

func (f *backups) untilGone(name string) {
	GinkgoHelper()
	Eventually(func() bool {
		return apierrors.IsNotFound(kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, &v1alpha1.MetaStoreBackup{}))
	}).WithTimeout(patience).WithPolling(50*time.Millisecond).Should(BeTrue(), func() string { return fmt.Sprintf("%v", f.events.actions()) })
}

func (f *backups) jobs() []string {
	list := &batchv1.JobList{}
	Expect(kube.List(f.ctx, list, client.InNamespace(f.namespace))).To(Succeed())
	var out []string
	for _, j := range list.Items {
		out = append(out, j.Name)
	}
	return out
}

func deleted(s *v1alpha1.MetaStoreBackupSpec) { s.DeletionPolicy = v1alpha1.ArtifactDelete }
func once(s *v1alpha1.MetaStoreBackupSpec)    { s.BackoffLimit = ptr.To(int32(0)) }

var _ = Describe("A backup", func() {
	It("is complete with what its artifact says of itself, and its claim is made", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.serves()
		f.start()
		f.take("a")
		b := f.untilEnd("a", backup.Complete)
		m := b.Status.Manifest
		Expect(m).NotTo(BeNil())
		Expect(m.Revision).To(BeEquivalentTo(42))
		Expect(m.RaftIndex).To(BeEquivalentTo(50))
		Expect(m.StoredSHA256).To(Equal("bb"))
		Expect(b.Status.Location).To(Equal("pvc://backups/" + f.namespace + "/x/a"))
		Expect(b.Status.Image).To(Equal("registry.test/metastore:1"))
		Expect(b.Status.StartedAt).NotTo(BeNil())
		Expect(b.Status.CompletedAt).NotTo(BeNil())
		Expect(b.Status.ObservedGeneration).To(Equal(b.Generation))
		Expect(meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionReady)).To(BeTrue())
		Expect(condition(b.Status.Conditions, v1alpha1.ConditionReconciling)).To(BeNil())
		claim := &corev1.PersistentVolumeClaim{}
		Expect(kube.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: "backups"}, claim)).To(Succeed())
		Expect(claim.OwnerReferences).To(BeEmpty())
		Expect(claim.Spec.Resources.Requests.Storage().String()).To(Equal("1Gi"))
		Expect(valueOf(backupsEnded.WithLabelValues(f.namespace, "x", "Complete"))).To(Equal(1.0))
		By("leaving nothing else behind")
		Eventually(f.jobs).WithTimeout(patience).Should(BeEmpty())
		Expect(f.store.args[0]).To(ContainElements("--endpoints=http://x-0.x-peers."+f.namespace+".svc:2379", "--cluster-id=c1"))
		By("going without its artifact")
		Expect(kube.Delete(ctx, b)).To(Succeed())
		f.untilGone("a")
		Expect(f.store.called()).To(Equal([]string{"take a"}))
	})

	It("is tried again, and several do not wait for one another", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.serves()
		refusals := map[string]int{}
		f.store.change(func(verb string) string {
			if refusals[verb]++; refusals[verb] == 1 {
				return "Unreachable"
			}
			return ""
		}, nil)
		f.start()
		for _, name := range []string{"a", "b", "c"} {
			f.take(name)
		}
		for _, name := range []string{"a", "b", "c"} {
			f.untilEnd(name, backup.Complete)
		}
		Expect(f.store.called()).To(HaveLen(4))
	})

	It("takes its artifact along", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.serves()
		f.start()
		b := f.take("a", deleted)
		f.untilEnd("a", backup.Complete)
		Expect(f.store.has(f.namespace + "/x/a")).To(BeTrue())
		Expect(kube.Delete(ctx, f.cluster())).To(Succeed()) // which is not needed for that
		Expect(kube.Delete(ctx, b)).To(Succeed())
		f.untilGone("a")
		Expect(f.store.has(f.namespace + "/x/a")).To(BeFalse())
	})

	It("goes after its time", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.serves()
		f.start()
		f.take("a", deleted, func(s *v1alpha1.MetaStoreBackupSpec) { s.TTLSecondsAfterFinished = ptr.To(int32(0)) })
		f.untilGone("a")
		Expect(f.store.called()).To(Equal([]string{"take a", "delete a"}))
	})

	It("goes although its artifact cannot be deleted, and says what is left", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.serves()
		f.start()
		b := f.take("a", deleted)
		f.untilEnd("a", backup.Complete)
		f.store.change(func(string) string { return "Unreachable" }, nil)
		Expect(kube.Delete(ctx, b)).To(Succeed())
		f.untilGone("a")
		Eventually(f.events.actions).Should(ContainElement(SatisfyAll(HavePrefix("Warning DropFinalizer ArtifactLeft: "),
			ContainSubstring("the store says so"), ContainSubstring("pvc://backups/"+f.namespace+"/x/a"))))
	})

	It("that is deleted in the midst stops, and leaves what another has stored", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.serves()
		f.store.change(nil, func(verb string) bool { return verb == "take" })
		f.start()
		f.store.put(f.namespace+"/x/a", metav1.NewTime(time.Now().Add(-time.Hour)))
		b := f.take("a", deleted)
		Eventually(f.jobs).WithTimeout(patience).Should(ConsistOf("a-take"))
		Expect(kube.Delete(ctx, b)).To(Succeed())
		f.untilGone("a")
		Eventually(f.jobs).WithTimeout(patience).Should(BeEmpty())
		Expect(f.store.called()).To(BeEmpty())
	})

	It("of a name that is taken fails, and leaves what is there", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.serves()
		f.start()
		f.store.put(f.namespace+"/x/a", metav1.NewTime(time.Now().Add(-time.Hour)))
		b := f.take("a", deleted, once)
		f.untilFailed("a", "AlreadyExists", "give the backup another name")
		Expect(kube.Delete(ctx, b)).To(Succeed())
		f.untilGone("a")
		Expect(f.store.has(f.namespace + "/x/a")).To(BeTrue())
	})

	It("whose Job has lost its pod finds its artifact again", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.serves()
		f.start()
		first := true
		nodes.runs(f.namespace, func(args []string) (string, int32, bool) {
			message, exit, done := f.store.run(args)
			if first && done {
				first, message = false, ""
			}
			return message, exit, done
		})
		f.take("a")
		f.untilEnd("a", backup.Complete)
		Expect(f.store.called()).To(Equal([]string{"take a", "take a"}))
	})

	It("asks members with certificates, as root", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.serves(withTLS(v1alpha1.TLSRequired, v1alpha1.TLSRequired, selfSigned))
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Auth = &v1alpha1.AuthSpec{RootCredentialsSecretRef: v1alpha1.SecretRef{Name: "root"}}
		})
		c := f.cluster()
		c.Status.Auth = &v1alpha1.AuthStatus{Enabled: true}
		Expect(kube.Status().Update(ctx, c)).To(Succeed())
		pod := f.pods()["x-0"]
		pod.Annotations = map[string]string{resources.AnnotationModes: "client-Required.peer-Required"}
		Expect(kube.Update(ctx, &pod)).To(Succeed())
		f.start()
		f.take("a")
		f.untilWaiting("a", "CertificatesMissing")
		f.secret(resources.CertificatesName("x"), "client-ca.crt")
		f.secret(resources.ClientSecretName("x"), corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
		f.untilWaiting("a", "CredentialsMissing")
		f.secret(resources.CredentialsName("x"), passwordKey)
		f.untilEnd("a", backup.Complete)
		Expect(f.store.args[0]).To(ContainElements("--endpoints=https://x-0.x-peers."+f.namespace+".svc:2379", "--user=root",
			"--cacert=/etc/metastore/members/client-ca.crt", "--cert=/etc/metastore/members/tls.crt"))
	})
})

// valueOf reads a counter or a gauge.
func valueOf(m prometheus.Metric) float64 {
	GinkgoHelper()
	out := &dto.Metric{}
	Expect(m.Write(out)).To(Succeed())
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

// secret makes a Secret with something under each key.
func (f *backups) secret(name string, keys ...string) {
	GinkgoHelper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name}, Data: map[string][]byte{}}
	for _, key := range keys {
		s.Data[key] = []byte("x")
	}
	Expect(kube.Create(f.ctx, s)).To(Succeed())
}

// untilWaiting waits until a backup waits for a reason.
func (f *backups) untilWaiting(name, reason string) {
	GinkgoHelper()
	Eventually(func() string {
		c := condition(f.get(name).Status.Conditions, v1alpha1.ConditionReconciling)
		if c == nil {
			return fmt.Sprintf("%+v", f.get(name).Status.Conditions)
		}
		return c.Reason
	}).WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(Equal(reason))
}

var _ = DescribeTable("Bad input of a backup fails with its reason", func(ctx SpecContext, prepare func(*backups), change func(*v1alpha1.MetaStoreBackupSpec), reason, message string) {
	f := newBackups(ctx)
	if reason != "ClusterMissing" {
		f.serves()
	}
	if prepare != nil {
		prepare(f)
	}
	f.start()
	f.take("a", once, change)
	f.untilFailed("a", reason, message)
},
	Entry("no cluster", nil, func(*v1alpha1.MetaStoreBackupSpec) {}, "ClusterMissing", "MetaStoreCluster x does not exist"),
	Entry("no claim", nil, func(s *v1alpha1.MetaStoreBackupSpec) { s.Destination = toClaim("none", false) }, "ClaimMissing", "PersistentVolumeClaim none does not exist"),
	Entry("no Secret", nil, toStore, "SecretMissing", "credentialsSecretRef names Secret s3, which does not exist"),
	Entry("a Secret without keys", func(f *backups) { f.secret("s3", v1alpha1.StoreKeyAccessKeyID) }, toStore, "SecretInvalid", "Secret s3 of spec.destination.objectStore.credentialsSecretRef has no secret-access-key"),
	Entry("no key to encrypt with", nil, func(s *v1alpha1.MetaStoreBackupSpec) {
		s.Encryption = &v1alpha1.BackupEncryption{SecretRef: v1alpha1.SecretRef{Name: "age"}}
	}, "SecretMissing", "spec.encryption.secretRef names Secret age"),
	Entry("no key to test with", func(f *backups) { f.secret("age", v1alpha1.EncryptionKeyRecipients) }, func(s *v1alpha1.MetaStoreBackupSpec) {
		s.Encryption, s.Verify = &v1alpha1.BackupEncryption{SecretRef: v1alpha1.SecretRef{Name: "age"}}, v1alpha1.VerifyRestoreTest
	}, "SecretInvalid", "has no identity"),
	Entry("a full destination", func(f *backups) { f.store.change(func(string) string { return "DestinationFull" }, nil) }, func(*v1alpha1.MetaStoreBackupSpec) {}, "DestinationFull", "the store says so"),
	Entry("a read-only destination", func(f *backups) { f.store.change(func(string) string { return "DestinationReadOnly" }, nil) },
		func(s *v1alpha1.MetaStoreBackupSpec) { s.BackoffLimit = ptr.To(int32(10)) }, "DestinationReadOnly", "the store says so"),
	Entry("wrong credentials", func(f *backups) {
		f.secret("s3", v1alpha1.StoreKeyAccessKeyID, v1alpha1.StoreKeySecretAccessKey)
		f.store.change(func(string) string { return "AccessDenied" }, nil)
	}, toStore, "AccessDenied", "the store says so"),
	Entry("no time", func(f *backups) { f.store.change(nil, func(string) bool { return true }) },
		func(s *v1alpha1.MetaStoreBackupSpec) { s.ActiveDeadlineSeconds = ptr.To(int64(10)) }, "DeadlineExceeded", "activeDeadlineSeconds"),
)

func toStore(s *v1alpha1.MetaStoreBackupSpec) {
	s.Destination = v1alpha1.BackupDestination{ObjectStore: &v1alpha1.ObjectStoreDestination{
		Endpoint: "https://s3.test", Bucket: "backups", CredentialsSecretRef: v1alpha1.SecretRef{Name: "s3"},
	}}
}

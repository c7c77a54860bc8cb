package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/pki"
)

// Backups of one cluster that speaks nothing but TLS and checks users, while a
// client writes.
var _ = Describe("backups", Ordered, func() {
	const replicas = 3
	var (
		namespace string
		c         *cluster
		etcd      *clientv3.Client
		w         *writer
	)

	BeforeAll(func(ctx context.Context) {
		namespace = env.namespace(ctx)
		c = &cluster{env: env, key: client.ObjectKey{Namespace: namespace, Name: "kept"}}
		issuer, err := pki.NewAuthority("somebody's own", time.Hour, time.Now())
		Expect(err).NotTo(HaveOccurred())
		c.writeCertificate(ctx, "mine", issuer)
		c.writePassword(ctx, "first")
		createCluster(ctx, namespace, "kept", v1alpha1.EngineRocksDB, replicas, func(object *v1alpha1.MetaStoreCluster) {
			mine := &v1alpha1.SecretRef{Name: "mine"}
			source := &v1alpha1.TLSSource{SecretRef: mine}
			object.Spec.TLS = &v1alpha1.TLSSpec{
				Client: &v1alpha1.ClientTLS{Mode: v1alpha1.TLSRequired, Source: source, ClientCertificates: v1alpha1.ClientCertificatesRequired, OperatorSecretRef: mine},
				Peer:   &v1alpha1.PeerTLS{Mode: v1alpha1.TLSRequired, Source: source},
			}
			object.Spec.Auth = &v1alpha1.AuthSpec{RootCredentialsSecretRef: v1alpha1.SecretRef{Name: "root"}}
		})
		c.untilReady(ctx)
		c.untilAuth(ctx)
		config := c.clientConfig(0, c.tlsConfig(ctx))
		config.Username, config.Password = "root", "first"
		etcd = clientOf(config)
		w = startWriter(etcd, "written/")
		w.expectProgress(ctx, 50)
	}, NodeTimeout(2*readyTimeout))
	JustAfterEach(func(ctx context.Context) { env.collectOnFailure(ctx, namespace) })

	It("are complete with what they hold, and have been restored for a test", func(ctx context.Context) {
		before, err := etcd.Get(ctx, "written/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		Expect(err).NotTo(HaveOccurred())
		b := c.backup(ctx, "tested", func(s *v1alpha1.MetaStoreBackupSpec) { s.Verify = v1alpha1.VerifyRestoreTest })
		b = c.untilComplete(ctx, b.Name)
		object, err := c.get(ctx)
		Expect(err).NotTo(HaveOccurred())
		m := b.Status.Manifest
		Expect(m.ClusterID).To(Equal(object.Status.ClusterID))
		Expect(m.Revision).To(BeNumerically(">=", before.Header.Revision))
		Expect(m.Keys).To(BeNumerically(">=", before.Count))
		Expect(m.Verified).To(Equal("restore-test"))
		Expect(m.Compression).To(Equal("zstd"))
		Expect(m.StoredSHA256).To(HaveLen(64))
		Expect(m.StoredBytes).To(BeNumerically(">", 0))
		Eventually(func(g Gomega, ctx context.Context) {
			object, err := c.get(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(object.Status.LastBackup).To(HaveValue(HaveField("Revision", m.Revision)))
		}).WithContext(ctx).WithTimeout(progressTimeout).Should(Succeed())
		w.expectProgress(ctx, 20)
	}, NodeTimeout(readyTimeout))

	It("survive the loss of a member in their midst", func(ctx context.Context) {
		value := make([]byte, 1<<20)
		for i := range 48 {
			_, _ = rand.Read(value) // which no compression makes smaller
			_, err := etcd.Put(ctx, fmt.Sprintf("large/%d", i), string(value))
			Expect(err).NotTo(HaveOccurred())
		}
		c.backup(ctx, "in-the-midst")
		Eventually(c.jobPods).WithContext(ctx).WithArguments("in-the-midst-take").WithTimeout(readyTimeout).
			Should(ContainElement(HaveField("Status.Phase", corev1.PodRunning)))
		follower := c.pod(ctx, 2)
		Expect(env.client.Delete(ctx, &follower)).To(Succeed())
		b := c.untilComplete(ctx, "in-the-midst")
		Expect(b.Status.Manifest.SnapshotBytes).To(BeNumerically(">", 48<<20))
		c.untilReady(ctx)
	}, NodeTimeout(2*readyTimeout))

	It("are made and deleted by a schedule, each with its artifact", func(ctx context.Context) {
		s := &v1alpha1.MetaStoreBackupSchedule{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "yearly"},
			Spec: v1alpha1.MetaStoreBackupScheduleSpec{
				Schedule: "@yearly", TimeZone: "Europe/Berlin", Retention: &v1alpha1.BackupRetention{KeepLast: ptr.To(int32(1))},
				Template: v1alpha1.BackupTemplate{Spec: v1alpha1.MetaStoreBackupSpec{
					ClusterRef: v1alpha1.ClusterRef{Name: c.key.Name}, BackupSettings: v1alpha1.BackupSettings{Destination: toBackups("scheduled")},
					DeletionPolicy: v1alpha1.ArtifactDelete,
				}},
			},
		}
		Expect(env.client.Create(ctx, s)).To(Succeed())
		var first string
		for _, word := range []string{"first", "second"} {
			_, err := env.kube(ctx, "", "-n", namespace, "annotate", "--overwrite", "metastorebackupschedule/yearly", v1alpha1.AnnotationBackupNow+"="+word)
			Expect(err).NotTo(HaveOccurred())
			Eventually(func(g Gomega, ctx context.Context) {
				g.Expect(env.client.Get(ctx, client.ObjectKeyFromObject(s), s)).To(Succeed())
				g.Expect(s.Status.BackupNow).To(Equal(word))
				g.Expect(s.Status.Active).To(BeEmpty())
				g.Expect(s.Status.LastSuccessfulBackup).NotTo(BeElementOf("", first), "%+v", s.Status)
			}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
			if word == "first" {
				first = s.Status.LastSuccessfulBackup
			}
		}
		Eventually(func(ctx context.Context) bool {
			return apierrors.IsNotFound(env.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: first}, &v1alpha1.MetaStoreBackup{}))
		}).WithContext(ctx).WithTimeout(readyTimeout).Should(BeTrue(), "backup %s is kept", first)
		Eventually(backupEvents).WithContext(ctx).WithArguments(namespace, first).WithTimeout(progressTimeout).Should(ContainElement("ArtifactDeleted"))
	}, NodeTimeout(2*readyTimeout))

	It("fail with the reason where something is missing or nobody answers", func(ctx context.Context) {
		soon := func(s *v1alpha1.MetaStoreBackupSpec) {
			s.ActiveDeadlineSeconds, s.BackoffLimit = ptr.To(int64(150)), ptr.To(int32(0))
		}
		c.backup(ctx, "no-claim", func(s *v1alpha1.MetaStoreBackupSpec) {
			s.Destination, s.ActiveDeadlineSeconds = v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{ClaimName: "none"}}, ptr.To(int64(10))
		})
		Expect(env.client.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "s3"},
			StringData: map[string]string{v1alpha1.StoreKeyAccessKeyID: "a", v1alpha1.StoreKeySecretAccessKey: "b"},
		})).To(Succeed())
		c.backup(ctx, "no-store", soon, func(s *v1alpha1.MetaStoreBackupSpec) {
			s.Destination = v1alpha1.BackupDestination{ObjectStore: &v1alpha1.ObjectStoreDestination{
				Endpoint: "http://" + c.memberHost(0) + ":1", Bucket: "none", Region: "a", CredentialsSecretRef: v1alpha1.SecretRef{Name: "s3"},
			}}
		})
		c.untilFailed(ctx, "no-claim", "ClaimMissing")
		c.untilFailed(ctx, "no-store", "Unreachable")
	}, NodeTimeout(readyTimeout))

	It("fail with the reason where there is no room or nothing may be written, and harm nothing", func(ctx context.Context) {
		c.expectBadDestinations(ctx)
	}, NodeTimeout(readyTimeout))

	It("come before the end of a cluster, whose volumes go with it", func(ctx context.Context) {
		w.checkAll(ctx, etcd)
		c.edit(ctx, func(object *v1alpha1.MetaStoreCluster) {
			object.Spec.DeletionPolicy, object.Spec.DeletionBackup = v1alpha1.DeletionBackup, &v1alpha1.BackupSettings{Destination: toBackups("last")}
		})
		Eventually(func(g Gomega, ctx context.Context) {
			object, err := c.get(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(object.Finalizers).To(ContainElement(v1alpha1.FinalizerBackup))
		}).WithContext(ctx).WithTimeout(progressTimeout).Should(Succeed())
		object, err := c.get(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(env.client.Delete(ctx, object)).To(Succeed())
		Eventually(func(ctx context.Context) bool {
			_, err := c.get(ctx)
			return apierrors.IsNotFound(err)
		}).WithContext(ctx).WithTimeout(readyTimeout).Should(BeTrue())
		Eventually(c.claims).WithContext(ctx).WithTimeout(readyTimeout).Should(ConsistOf("backups"))
		list := &v1alpha1.MetaStoreBackupList{}
		Expect(env.client.List(ctx, list, client.InNamespace(namespace), client.HasLabels{v1alpha1.LabelPurpose})).To(Succeed())
		Expect(list.Items).To(HaveLen(1))
		Expect(meta.IsStatusConditionTrue(list.Items[0].Status.Conditions, v1alpha1.ConditionComplete)).To(BeTrue())

		By("deleting the volume with the backups, which nothing holds any more")
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "backups"}}
		Expect(env.client.Delete(ctx, claim)).To(Succeed())
		env.untilGone(ctx, claim)
	}, NodeTimeout(2*readyTimeout))
})

// toBackups is a folder of a volume that is made when it is first asked for.
func toBackups(folder string) v1alpha1.BackupDestination {
	return v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{
		ClaimName: "backups", SubPath: folder, Create: &v1alpha1.CreatedClaim{Size: resource.MustParse("1Gi")},
	}}
}

// backup asks for a backup of the cluster.
func (c *cluster) backup(ctx context.Context, name string, edits ...func(*v1alpha1.MetaStoreBackupSpec)) *v1alpha1.MetaStoreBackup {
	GinkgoHelper()
	b := &v1alpha1.MetaStoreBackup{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.key.Namespace, Name: name},
		Spec: v1alpha1.MetaStoreBackupSpec{
			ClusterRef: v1alpha1.ClusterRef{Name: c.key.Name}, BackupSettings: v1alpha1.BackupSettings{Destination: toBackups("asked-for")},
		},
	}
	for _, edit := range edits {
		edit(&b.Spec)
	}
	Expect(env.client.Create(ctx, b)).To(Succeed())
	return b
}

// untilComplete waits for the end of a backup, which is a good one.
func (c *cluster) untilComplete(ctx context.Context, name string) *v1alpha1.MetaStoreBackup {
	GinkgoHelper()
	return c.untilEnded(ctx, name, v1alpha1.ConditionComplete)
}

// untilFailed waits for the end of a backup, which is a failure for a reason.
func (c *cluster) untilFailed(ctx context.Context, name, reason string) {
	GinkgoHelper()
	b := c.untilEnded(ctx, name, v1alpha1.ConditionFailed)
	Expect(meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionFailed).Reason).To(Equal(reason), "%+v", b.Status.Conditions)
	Eventually(backupEvents).WithContext(ctx).WithArguments(c.key.Namespace, name).WithTimeout(progressTimeout).Should(ContainElement(reason))
}

func (c *cluster) untilEnded(ctx context.Context, name, condition string) *v1alpha1.MetaStoreBackup {
	GinkgoHelper()
	b := &v1alpha1.MetaStoreBackup{}
	Eventually(func(g Gomega, ctx context.Context) {
		g.Expect(env.client.Get(ctx, client.ObjectKey{Namespace: c.key.Namespace, Name: name}, b)).To(Succeed())
		g.Expect(b.Status.CompletedAt).NotTo(BeNil(), "%+v", b.Status.Conditions)
	}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
	Expect(meta.IsStatusConditionTrue(b.Status.Conditions, condition)).To(BeTrue(), "%+v", b.Status.Conditions)
	return b
}

func (c *cluster) jobPods(ctx context.Context, job string) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	err := env.client.List(ctx, list, client.InNamespace(c.key.Namespace), client.MatchingLabels{batchv1.JobNameLabel: job})
	return list.Items, err
}

// backupEvents are the reasons of a backup's events.
func backupEvents(ctx context.Context, namespace, name string) ([]string, error) {
	list := &eventsv1.EventList{}
	if err := env.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var out []string
	for _, e := range list.Items {
		if e.Regarding.Kind == v1alpha1.KindMetaStoreBackup && e.Regarding.Name == name {
			out = append(out, e.Reason)
		}
	}
	return out, nil
}

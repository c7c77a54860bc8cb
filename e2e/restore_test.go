package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

const (
	// backups is the volume of the specs' backups; its node is also that of all
	// members, since it is a folder there.
	backups      = "backups"
	restoreBump  = v1alpha1.DefaultRevisionBump
	restoredKeys = 100
)

var _ = Describe("Restores", Ordered, func() {
	var (
		namespace, node string
		old, fresh      *cluster
		backedUp        map[string]string
	)
	pinned := func(object *v1alpha1.MetaStoreCluster) {
		object.Spec.PodTemplate = &v1alpha1.PodTemplateOverlay{Spec: &v1alpha1.PodSpecOverlay{NodeSelector: map[string]string{corev1.LabelHostname: node}}}
	}
	begins := func(restore string) func(*v1alpha1.MetaStoreCluster) {
		return func(object *v1alpha1.MetaStoreCluster) {
			object.Spec.Bootstrap = &v1alpha1.BootstrapSpec{Restore: restore}
		}
	}
	destination := v1alpha1.BackupDestination{PVC: &v1alpha1.PVCDestination{ClaimName: backups}}
	backup := &v1alpha1.RestoreSource{BackupRef: &v1alpha1.BackupRef{Name: "first"}}

	BeforeAll(func(ctx context.Context) {
		namespace, node = env.namespace(ctx), env.someNode(ctx)
		old = createCluster(ctx, namespace, "old", v1alpha1.EngineRocksDB, 3, pinned, lossy)
		old.untilReady(ctx)
		etcd := old.serviceClient(ctx)
		backedUp = putKeys(ctx, etcd, "kept/")
		to := destination.DeepCopy()
		to.PVC.Create = &v1alpha1.CreatedClaim{Size: resource.MustParse("1Gi")}
		Expect(env.client.Create(ctx, &v1alpha1.MetaStoreBackup{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "first"},
			Spec: v1alpha1.MetaStoreBackupSpec{
				ClusterRef: v1alpha1.ClusterRef{Name: "old"}, BackupSettings: v1alpha1.BackupSettings{Destination: *to},
			},
		})).To(Succeed())
		Eventually(func(g Gomega, ctx context.Context) {
			var b v1alpha1.MetaStoreBackup
			g.Expect(env.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "first"}, &b)).To(Succeed())
			g.Expect(meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionComplete)).To(BeTrue(), "%+v", b.Status.Conditions)
		}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
	}, NodeTimeout(2*readyTimeout))
	JustAfterEach(func(ctx context.Context) { env.collectOnFailure(ctx, namespace) })

	It("begin a new cluster with the keys of a backup, ahead of its revision", func(ctx context.Context) {
		fresh = createCluster(ctx, namespace, "fresh", v1alpha1.EngineMemory, 1, pinned, begins("into-fresh"))
		old.restore(ctx, "into-fresh", v1alpha1.MetaStoreRestoreSpec{Mode: v1alpha1.RestoreNewCluster, ClusterName: "fresh", Source: backup})
		fresh.untilReady(ctx)
		r := old.untilRestored(ctx, "into-fresh", v1alpha1.ConditionComplete)
		got, revision := keysOf(ctx, fresh.serviceClient(ctx), "")
		Expect(got).To(Equal(backedUp))
		Expect(revision).To(Equal(r.Status.Manifest.Revision + restoreBump))
	}, NodeTimeout(readyTimeout))

	It("have a backup to go back to before another image comes", func(ctx context.Context) {
		fresh.expectUpdateBackup(ctx, destination)
		got, _ := keysOf(ctx, fresh.serviceClient(ctx), "")
		Expect(got).To(Equal(backedUp))
	}, NodeTimeout(readyTimeout))

	It("begin a new cluster from a bucket, encrypted on its way", func(ctx context.Context) {
		old.expectBucket(ctx)
	}, NodeTimeout(2*readyTimeout))

	It("give a cluster back what it had, and nobody who watches sees time go backwards", func(ctx context.Context) {
		etcd := old.serviceClient(ctx)
		putKeys(ctx, etcd, "later/")
		f := startFollower(old.serviceClient(ctx))
		f.expectKeys(ctx, 2*restoredKeys)
		before, err := old.get(ctx)
		Expect(err).NotTo(HaveOccurred())
		old.restore(ctx, "back", v1alpha1.MetaStoreRestoreSpec{
			Mode: v1alpha1.RestoreInPlace, ClusterName: "old", ConfirmClusterName: "old", Source: backup,
		})
		old.untilRestored(ctx, "back", v1alpha1.ConditionComplete)
		after := old.untilReady(ctx)
		Expect(after.Status.ClusterID).NotTo(Equal(before.Status.ClusterID))
		f.expectKeys(ctx, restoredKeys)
		_, err = etcd.Put(ctx, "after", "the restore")
		Expect(err).NotTo(HaveOccurred())
		f.expectKeys(ctx, restoredKeys+1)
		f.expectNeverBack()
		old.expectSameData(ctx, 3)
	}, NodeTimeout(2*readyTimeout))

	It("turn back when the restored cluster does not serve", func(ctx context.Context) {
		old.expectUndone(ctx, node, backup)
	}, NodeTimeout(2*readyTimeout))

	It("begin a cluster anew from the member that is left", func(ctx context.Context) {
		old.expectForced(ctx)
	}, NodeTimeout(2*readyTimeout))

	It("migrate a real etcd by its snapshot", func(ctx context.Context) {
		env.needsNodes()
		file, want := snapshotOfEtcd(ctx)
		text, err := os.Open(file)
		Expect(err).NotTo(HaveOccurred())
		defer text.Close()
		put := exec.CommandContext(ctx, env.nodeScript, "exec", node, "sh", "-euc", "cat > "+env.folderOf(ctx, namespace, backups)+"/etcd.db")
		put.Stdin = text
		out, err := put.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
		migrated := createCluster(ctx, namespace, "migrated", v1alpha1.EngineRocksDB, 1, pinned, begins("from-etcd"))
		old.restore(ctx, "from-etcd", v1alpha1.MetaStoreRestoreSpec{
			Mode: v1alpha1.RestoreNewCluster, ClusterName: "migrated",
			Source: &v1alpha1.RestoreSource{EtcdSnapshot: &v1alpha1.SnapshotFileSource{Destination: destination, File: "etcd.db"}},
		})
		migrated.untilReady(ctx)
		got, revision := keysOf(ctx, migrated.serviceClient(ctx), "")
		Expect(got).To(Equal(want))
		Expect(revision).To(BeNumerically(">", restoreBump))
	}, NodeTimeout(readyTimeout))

	It("refuse an artifact that was tampered with, and leave the cluster alone", func(ctx context.Context) {
		env.needsNodes()
		artifact := env.folderOf(ctx, namespace, backups) + "/" + namespace + "/old/first/snapshot.db.zst"
		env.onNode(ctx, node, "printf x | dd of="+artifact+" bs=1 seek=100 conv=notrunc status=none")
		pods := old.uids(ctx)
		old.restore(ctx, "tampered", v1alpha1.MetaStoreRestoreSpec{
			Mode: v1alpha1.RestoreInPlace, ClusterName: "old", ConfirmClusterName: "old", Source: backup,
			AllowForeignCluster: func() *bool { yes := true; return &yes }(),
		})
		r := old.untilRestored(ctx, "tampered", v1alpha1.ConditionFailed)
		Expect(meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionFailed).Reason).To(Equal("Corrupt"))
		Expect(old.uids(ctx)).To(Equal(pods))
		old.untilReady(ctx)
	}, NodeTimeout(readyTimeout))
})

// someNode is the name of a node that takes pods.
func (e *environment) someNode(ctx context.Context) string {
	GinkgoHelper()
	var nodes corev1.NodeList
	Expect(e.client.List(ctx, &nodes)).To(Succeed())
	for _, n := range nodes.Items {
		if !n.Spec.Unschedulable && len(n.Spec.Taints) == 0 {
			return n.Labels[corev1.LabelHostname]
		}
	}
	Fail("no node takes pods")
	return ""
}

// folderOf is where the volume of a claim is on its node.
func (e *environment) folderOf(ctx context.Context, namespace, name string) string {
	GinkgoHelper()
	var claim corev1.PersistentVolumeClaim
	Expect(e.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &claim)).To(Succeed())
	var volume corev1.PersistentVolume
	Expect(e.client.Get(ctx, client.ObjectKey{Name: claim.Spec.VolumeName}, &volume)).To(Succeed())
	switch {
	case volume.Spec.HostPath != nil:
		return volume.Spec.HostPath.Path
	case volume.Spec.Local != nil:
		return volume.Spec.Local.Path
	}
	Fail("volume " + volume.Name + " is not a folder of its node")
	return ""
}

// restore makes a MetaStoreRestore in the cluster's namespace.
func (c *cluster) restore(ctx context.Context, name string, spec v1alpha1.MetaStoreRestoreSpec) {
	GinkgoHelper()
	Expect(c.env.client.Create(ctx, &v1alpha1.MetaStoreRestore{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.key.Namespace, Name: name}, Spec: spec,
	})).To(Succeed())
}

// untilRestored waits for the end of a restore, which has to be this one.
func (c *cluster) untilRestored(ctx context.Context, name, outcome string) *v1alpha1.MetaStoreRestore {
	GinkgoHelper()
	r := &v1alpha1.MetaStoreRestore{}
	Eventually(func(g Gomega, ctx context.Context) {
		g.Expect(c.env.client.Get(ctx, client.ObjectKey{Namespace: c.key.Namespace, Name: name}, r)).To(Succeed())
		g.Expect(r.Status.CompletedAt).NotTo(BeNil(), "%+v", r.Status)
	}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
	Expect(meta.IsStatusConditionTrue(r.Status.Conditions, outcome)).To(BeTrue(), "%+v", r.Status)
	for _, s := range r.Status.Steps {
		GinkgoWriter.Printf("restore %s: %s took %s\n", name, s.Name, s.CompletedAt.Sub(s.StartedAt.Time))
	}
	return r
}

func putKeys(ctx context.Context, etcd *clientv3.Client, prefix string) map[string]string {
	GinkgoHelper()
	out := map[string]string{}
	for i := range restoredKeys {
		key, value := fmt.Sprintf("%s%03d", prefix, i), fmt.Sprintf("value %d", i)
		_, err := etcd.Put(ctx, key, value)
		Expect(err).NotTo(HaveOccurred())
		out[key] = value
	}
	return out
}

func keysOf(ctx context.Context, etcd *clientv3.Client, prefix string) (keys map[string]string, revision int64) {
	GinkgoHelper()
	r, err := etcd.Get(ctx, prefix, clientv3.WithPrefix())
	Expect(err).NotTo(HaveOccurred())
	keys = map[string]string{}
	for _, kv := range r.Kvs {
		keys[string(kv.Key)] = string(kv.Value)
	}
	return keys, r.Header.Revision
}

// snapshotOfEtcd runs a real etcd, and saves a snapshot of it as its users do.
func snapshotOfEtcd(ctx context.Context) (file string, keys map[string]string) {
	GinkgoHelper()
	dir, etcdctl := GinkgoT().TempDir(), mustGetenv("ETCDCTL")
	client, peer := "http://"+freeAddress("127.0.0.1"), "http://"+freeAddress("127.0.0.1")
	server := exec.Command(filepath.Join(filepath.Dir(etcdctl), "etcd"), "--data-dir", filepath.Join(dir, "data"), "--name", "default", "--log-level", "error",
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	server.Stdout, server.Stderr = GinkgoWriter, GinkgoWriter
	Expect(server.Start()).To(Succeed())
	defer func() {
		Expect(server.Process.Kill()).To(Succeed())
		_ = server.Wait() // which says that it was killed
	}()
	etcd := newClient(client[len("http://"):], nil)
	Eventually(func(ctx context.Context) error { _, err := etcd.Get(ctx, "x"); return err }).WithContext(ctx).WithTimeout(progressTimeout).Should(Succeed())
	keys = putKeys(ctx, etcd, "etcd/")
	file = filepath.Join(dir, "snapshot.db")
	out, err := exec.CommandContext(ctx, etcdctl, "--endpoints", client, "snapshot", "save", file).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
	return file, keys
}

func freeAddress(host string) string {
	GinkgoHelper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	Expect(err).NotTo(HaveOccurred())
	defer l.Close()
	return l.Addr().String()
}

// follower lists and watches all keys as informers do: it lists again when its
// watch ends, and keeps the highest revision that it has seen.
type follower struct {
	mu      sync.Mutex
	keys    map[string]bool
	highest int64
	back    []string
}

func startFollower(etcd *clientv3.Client) *follower {
	f := &follower{keys: map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			f.listAndWatch(ctx, etcd)
		}
	}()
	DeferCleanup(func() {
		cancel()
		<-done
	})
	return f
}

func (f *follower) listAndWatch(ctx context.Context, etcd *clientv3.Client) {
	listCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
	list, err := etcd.Get(listCtx, "", clientv3.WithPrefix())
	cancel()
	if err != nil {
		return
	}
	f.see("list", list.Header.Revision, func() {
		f.keys = map[string]bool{}
		for _, kv := range list.Kvs {
			f.keys[string(kv.Key)] = true
		}
	})
	for w := range etcd.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(list.Header.Revision+1)) {
		if w.Err() != nil {
			return
		}
		f.see("watch", w.Header.Revision, func() {
			for _, e := range w.Events {
				if e.Type == clientv3.EventTypeDelete {
					delete(f.keys, string(e.Kv.Key))
					continue
				}
				f.keys[string(e.Kv.Key)] = true
			}
		})
	}
}

func (f *follower) see(what string, revision int64, apply func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if revision < f.highest {
		f.back = append(f.back, fmt.Sprintf("%s at %d after %d", what, revision, f.highest))
	}
	f.highest = max(f.highest, revision)
	apply()
}

// expectKeys waits until it has this many keys.
func (f *follower) expectKeys(ctx context.Context, n int) {
	GinkgoHelper()
	Eventually(func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.keys)
	}).WithContext(ctx).WithTimeout(progressTimeout).Should(Equal(n))
}

func (f *follower) expectNeverBack() {
	GinkgoHelper()
	f.mu.Lock()
	defer f.mu.Unlock()
	Expect(f.back).To(BeEmpty())
	Expect(f.highest).To(BeNumerically(">", restoreBump))
}

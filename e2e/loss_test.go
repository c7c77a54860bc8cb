package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

// smallQuota is soon reached by what the loss specs write.
const smallQuota = 32 << 20

// lossy is for clusters that lose what can be lost: quick repairs, a small quota.
func lossy(object *v1alpha1.MetaStoreCluster) {
	object.Spec.Repair = &v1alpha1.RepairSpec{GracePeriod: &metav1.Duration{Duration: 3 * time.Second}}
	object.Spec.Server = &v1alpha1.ServerSpec{QuotaBackendBytes: resource.NewQuantity(smallQuota, resource.BinarySI)}
}

// expectCorruptReplaced damages the data of a member and wants a new one at its
// ordinal, and clients that saw nothing.
func (c *cluster) expectCorruptReplaced(ctx context.Context, ordinal, replicas int) {
	GinkgoHelper()
	k := c.startChecker(ctx, "corrupt/", replicas)
	before := c.memberIDs(ctx)
	c.harm(ctx, ordinal, damage)
	pod := c.pod(ctx, ordinal)
	Expect(c.env.client.Delete(ctx, &pod)).To(Succeed())
	c.untilReplaced(ctx, before, ordinal)
	k.expectNoFailure("a corrupt member")
	k.expectAllWatched(ctx)
	k.end()
	c.expectSameData(ctx, replicas)
}

// expectSpaceFreed fills the quota with the history of one key, and wants the
// cluster to write again by itself, with the keys that there were.
func (c *cluster) expectSpaceFreed(ctx context.Context, replicas int) {
	GinkgoHelper()
	etcd, value := c.serviceClient(ctx), make([]byte, 1<<20)
	_, err := etcd.Put(ctx, "space/kept", "yes")
	Expect(err).NotTo(HaveOccurred())
	for n := 0; err == nil; n++ {
		Expect(n).To(BeNumerically("<", 4*smallQuota>>20), "the quota is not kept")
		_, _ = rand.Read(value) // which no engine makes smaller
		_, err = etcd.Put(ctx, "space/history", string(value))
	}
	Expect(errors.Is(err, rpctypes.ErrNoSpace)).To(BeTrue(), "%v", err)
	Eventually(func(ctx context.Context) error {
		_, err := etcd.Put(ctx, "space/history", "short")
		return err
	}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
	object := c.untilReady(ctx)
	Expect(object.Status.Alarms).To(BeEmpty())
	Expect(meta.IsStatusConditionTrue(object.Status.Conditions, v1alpha1.ConditionStorageHealthy)).To(BeTrue())
	kept, err := etcd.Get(ctx, "space/kept")
	Expect(err).NotTo(HaveOccurred())
	Expect(kept.Kvs).To(HaveLen(1))
	c.expectSameData(ctx, replicas)
}

// memberIDs are the members' identities by pod.
func (c *cluster) memberIDs(ctx context.Context) map[string]string {
	GinkgoHelper()
	object, err := c.get(ctx)
	Expect(err).NotTo(HaveOccurred())
	out := map[string]string{}
	for _, m := range object.Status.Members {
		out[m.Name] = m.ID
	}
	return out
}

// needsNodes skips specs that stop nodes or harm what is on them where that is not
// for us to do: on a Kubernetes that KUBECONFIG names, or on kind.
func (e *environment) needsNodes() {
	GinkgoHelper()
	if e.nodeScript == "" {
		Skip("the nodes of this Kubernetes are not ours to stop or to harm")
	}
}

// damage writes over the records of the log, below its newest ones.
const damage = `for f in log/*.log; do dd if=/dev/zero of="$f" bs=512 seek=1 count=8 conv=notrunc status=none; done`

// harm runs a shell command in the data dir of a member, on its node: as a bad
// disk, or a wrong person, would.
func (c *cluster) harm(ctx context.Context, ordinal int, command string) {
	GinkgoHelper()
	folder := c.env.folderOf(ctx, c.key.Namespace, "data-"+c.podName(ordinal))
	c.env.onNode(ctx, c.pod(ctx, ordinal).Spec.NodeName, "cd "+folder+"/data; "+command)
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gstruct"
	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

// wipe is a data dir that somebody has emptied.
const wipe = `rm -rf -- * .[!.]*`

// What a cluster may lose, from one pod to its quorum.
var _ = Describe("a cluster that loses", Ordered, func() {
	const replicas = 3
	var (
		namespace string
		c         *cluster
	)

	BeforeAll(func(ctx context.Context) {
		namespace = env.namespace(ctx)
		c = createCluster(ctx, namespace, "lossy", v1alpha1.EngineRocksDB, replicas, lossy)
		c.untilReady(ctx)
	}, NodeTimeout(readyTimeout))
	JustAfterEach(func(ctx context.Context) { env.collectOnFailure(ctx, namespace) })

	It("one of its pods serves every request", func(ctx context.Context) {
		k := c.startChecker(ctx, "pods1/", replicas)
		k.expectRequests(ctx, 200)
		c.deletePods(ctx, 1)
		c.untilReady(ctx)
		k.expectRequests(ctx, 200)
		k.expectNoFailure("one pod deleted")
		k.expectAllWatched(ctx)
		k.end()
		c.expectSameData(ctx, replicas)
	}, NodeTimeout(2*readyTimeout))

	for _, n := range []int{2, 3} {
		It(fmt.Sprintf("%d of its pods, and so its quorum for a while, keeps what it acknowledged", n), func(ctx context.Context) {
			k := c.startChecker(ctx, fmt.Sprintf("pods%d/", n), replicas, patient)
			k.expectRequests(ctx, 200)
			c.deletePods(ctx, n)
			c.untilReady(ctx)
			k.expectRequests(ctx, 200)
			k.expectNothingBroken(fmt.Sprintf("%d pods deleted", n))
			k.expectAllWatched(ctx)
			k.end()
			c.expectSameData(ctx, replicas)
		}, NodeTimeout(2*readyTimeout))
	}

	It("two pods and the data of the third gets them all back", func(ctx context.Context) {
		env.needsNodes()
		k := c.startChecker(ctx, "mixed/", replicas, patient)
		k.expectRequests(ctx, 200)
		before := c.memberIDs(ctx)
		c.harm(ctx, 1, damage)
		c.deletePods(ctx, replicas)
		c.untilReplaced(ctx, before, 1)
		k.expectRequests(ctx, 200)
		k.expectNothingBroken("two pods deleted, one member corrupt")
		k.expectAllWatched(ctx)
		k.end()
		c.expectSameData(ctx, replicas)
	}, NodeTimeout(2*readyTimeout))

	It("the data of its seed never serves an empty key space", func(ctx context.Context) {
		env.needsNodes()
		etcd := c.serviceClient(ctx)
		_, err := etcd.Put(ctx, "seed/kept", "yes")
		Expect(err).NotTo(HaveOccurred())
		before := c.memberIDs(ctx)
		stop := c.alwaysHas(ctx, "seed/kept", 0)
		c.harm(ctx, 0, wipe)
		pod := c.pod(ctx, 0)
		Expect(env.client.Delete(ctx, &pod)).To(Succeed())
		c.untilReplaced(ctx, before, 0)
		Expect(stop()).To(Succeed())
		c.expectSameData(ctx, replicas)
	}, NodeTimeout(readyTimeout))

	It("a node for maintenance goes on without a failed request", func(ctx context.Context) {
		env.needsNodes()
		k := c.startChecker(ctx, "drain/", replicas)
		k.expectRequests(ctx, 200)
		ids, node := c.memberIDs(ctx), c.pod(ctx, 2).Spec.NodeName
		DeferCleanup(func(ctx context.Context) {
			_, err := env.kube(ctx, "", "uncordon", node)
			Expect(err).NotTo(HaveOccurred())
		})
		_, err := env.kube(ctx, "", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=180s")
		Expect(err).NotTo(HaveOccurred())
		k.expectRequests(ctx, 200)
		_, err = env.kube(ctx, "", "uncordon", node)
		Expect(err).NotTo(HaveOccurred())
		c.untilReady(ctx)
		Expect(c.memberIDs(ctx)).To(Equal(ids), "a drain is no loss")
		k.expectNoFailure("a node drained")
		k.expectAllWatched(ctx)
		k.end()
	}, NodeTimeout(2*readyTimeout))

	It("a node for good gets a member on another one", func(ctx context.Context) {
		env.needsNodes()
		w := startWriter(c.serviceClient(ctx), "node/")
		w.expectProgress(ctx, 20)
		before, pod := c.memberIDs(ctx), c.pod(ctx, 2)
		node := pod.Spec.NodeName
		env.power(ctx, "stop", node)
		DeferCleanup(func(ctx context.Context) {
			env.power(ctx, "start", node)
			Eventually(env.nodeReady).WithContext(ctx).WithArguments(node).WithTimeout(nodeTimeout).Should(BeTrue())
		})
		By("deleting the Node object, which says that it does not come back")
		Expect(env.client.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}})).To(Succeed())
		c.untilReplaced(ctx, before, 2)
		Expect(c.pod(ctx, 2).Spec.NodeName).NotTo(Equal(node))
		w.expectProgress(ctx, 20)
		w.checkAll(ctx, c.memberClient(ctx, 2))
		c.expectSameData(ctx, replicas)
	}, NodeTimeout(2*readyTimeout))

	It("its quorum for good begins anew from the best member, once somebody allows it", func(ctx context.Context) {
		env.needsNodes()
		w := startWriter(c.serviceClient(ctx), "quorum/")
		w.expectProgress(ctx, 50)
		before := c.memberIDs(ctx)
		for _, ordinal := range []int{0, 2} {
			c.harm(ctx, ordinal, wipe)
		}
		for _, ordinal := range []int{0, 2} {
			pod := c.pod(ctx, ordinal)
			Expect(env.client.Delete(ctx, &pod, client.GracePeriodSeconds(0))).To(Succeed())
		}
		Eventually(func(g Gomega, ctx context.Context) {
			object, err := c.get(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			stalled := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionStalled)
			g.Expect(stalled).NotTo(BeNil())
			g.Expect(stalled.Message).To(ContainSubstring("member 1 is the best"))
		}).WithContext(ctx).WithTimeout(readyTimeout).Should(Succeed())
		w.end() // what only lost members have was acknowledged by nobody else
		_, err := env.kube(ctx, "", "-n", namespace, "annotate", "metastorecluster/"+c.key.Name, v1alpha1.AnnotationRecoverQuorum+"="+c.key.Name)
		Expect(err).NotTo(HaveOccurred())
		c.untilReplaced(ctx, before, 0, 2)
		object := c.untilReady(ctx)
		Expect(object.Annotations).NotTo(HaveKey(v1alpha1.AnnotationRecoverQuorum), "the permission is for once")
		Expect(object.Status.Recovery).To(gstruct.PointTo(gstruct.MatchFields(gstruct.IgnoreExtras, gstruct.Fields{
			"Survivor": Equal(c.podName(1)), "AllowedBy": Equal("Annotation"), "Candidates": HaveLen(replicas),
		})))
		w.checkAll(ctx, c.memberClient(ctx, 0))
		c.expectSameData(ctx, replicas)
	}, NodeTimeout(2*readyTimeout))
})

// deletePods deletes the pods of the first n ordinals at once.
func (c *cluster) deletePods(ctx context.Context, n int) {
	GinkgoHelper()
	old := c.uids(ctx)
	for ordinal := range n {
		pod := c.pod(ctx, ordinal)
		Expect(c.env.client.Delete(ctx, &pod)).To(Succeed())
	}
	for ordinal := range n {
		name := c.podName(ordinal)
		Eventually(func(ctx context.Context) any { return c.uids(ctx)[name] }).
			WithContext(ctx).WithTimeout(readyTimeout).ShouldNot(BeElementOf(old[name], BeEmpty()), "pod %s", name)
	}
}

// untilReplaced waits until the ordinals have members of other identities than
// before, all others the ones they had, and everything is ready.
func (c *cluster) untilReplaced(ctx context.Context, before map[string]string, ordinals ...int) {
	GinkgoHelper()
	for _, ordinal := range ordinals {
		name := c.podName(ordinal)
		Eventually(func(ctx context.Context) string { return c.memberIDs(ctx)[name] }).
			WithContext(ctx).WithTimeout(readyTimeout).ShouldNot(BeElementOf("", before[name]), "member %s", name)
	}
	c.untilReady(ctx)
	replaced := map[string]bool{}
	for _, ordinal := range ordinals {
		replaced[c.podName(ordinal)] = true
	}
	for name, id := range c.memberIDs(ctx) {
		if !replaced[name] {
			Expect(id).To(Equal(before[name]), "member %s", name)
		}
	}
}

// alwaysHas reads a key from one member, linearizably, until stop, which tells
// whether it was ever missing, or never read.
func (c *cluster) alwaysHas(ctx context.Context, key string, ordinal int) (stop func() error) {
	GinkgoHelper()
	run, cancel := context.WithCancel(ctx)
	var (
		running sync.WaitGroup
		reads   int
		missing error
	)
	etcd := clientOf(clientv3.Config{
		Endpoints:   []string{fmt.Sprintf("http://%s:%d", c.podName(ordinal), clientPort)},
		DialOptions: dialWith(c.dialPod),
	})
	running.Go(func() {
		for run.Err() == nil {
			asked, done := context.WithTimeout(run, time.Second)
			response, err := etcd.Get(asked, key)
			done()
			switch {
			case err != nil:
			case response.Count != 1:
				missing = fmt.Errorf("member %d answered at revision %d without %s", ordinal, response.Header.Revision, key)
			default:
				reads++
			}
		}
	})
	end := func() error {
		cancel()
		running.Wait()
		if reads == 0 {
			return errors.New("the member was never read from")
		}
		return missing
	}
	DeferCleanup(func() { _ = end() })
	return end
}

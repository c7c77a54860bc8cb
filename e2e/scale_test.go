package e2e

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

var _ = Describe("scaling", Ordered, func() {
	var (
		namespace string
		c         *cluster
		w         *writer
		h         *history
	)

	BeforeAll(func(ctx context.Context) {
		namespace = env.namespace(ctx)
		c = createCluster(ctx, namespace, "grow", v1alpha1.EngineRocksDB, 1, lossy)
		c.untilReady(ctx)
		w = startWriter(c.serviceClient(ctx), "scaled/")
		h = startHistory(c.serviceClient(ctx), c.serviceClient(ctx), c.defaultClient(ctx, 3), c.defaultClient(ctx, 3))
	}, NodeTimeout(readyTimeout))
	JustAfterEach(func(ctx context.Context) { env.collectOnFailure(ctx, namespace) })

	for _, replicas := range []int32{3, 5, 3} {
		It(fmt.Sprintf("goes to %d members while a client writes", replicas), func(ctx context.Context) {
			before, err := c.get(ctx)
			Expect(err).NotTo(HaveOccurred())
			k := c.startChecker(ctx, fmt.Sprintf("%d/", before.Generation), int(before.Spec.Replicas))
			c.scale(ctx, replicas)
			c.untilReady(ctx)
			expectVoters(ctx, c, int(replicas))
			w.expectProgress(ctx, 20)
			k.expectNoFailure(fmt.Sprintf("from %d members to %d", before.Spec.Replicas, replicas))
			k.expectAllWatched(ctx)
			k.end()
		}, NodeTimeout(2*readyTimeout))
		if replicas == 5 {
			It("loses the data of two members of five and goes on", func(ctx context.Context) {
				env.needsNodes()
				before := c.memberIDs(ctx)
				for _, ordinal := range []int{0, 3} {
					c.harm(ctx, ordinal, wipe)
					pod := c.pod(ctx, ordinal)
					Expect(env.client.Delete(ctx, &pod)).To(Succeed())
				}
				c.untilReplaced(ctx, before, 0, 3)
				w.expectProgress(ctx, 20)
			}, NodeTimeout(2*readyTimeout))
		}
	}

	It("has lost nothing, was linearizable all the while, and all members agree", func(ctx context.Context) {
		h.expectLinearizable("members come, go and are lost")
		w.checkAll(ctx, c.memberClient(ctx, 1))
		c.expectSameData(ctx, 3)
	}, NodeTimeout(2*time.Minute))
})

// expectVoters asks the cluster itself who its members are.
func expectVoters(ctx context.Context, c *cluster, n int) {
	GinkgoHelper()
	list, err := c.serviceClient(ctx).MemberList(ctx)
	Expect(err).NotTo(HaveOccurred())
	var names []string
	for _, member := range list.Members {
		Expect(member.IsLearner).To(BeFalse(), "member %s", member.Name)
		names = append(names, member.Name)
	}
	var want []string
	for ordinal := range n {
		want = append(want, c.podName(ordinal))
	}
	Expect(names).To(ConsistOf(want))
}

// objectNames returns the names in any typed list.
func objectNames(list client.ObjectList) ([]string, error) {
	var names []string
	err := meta.EachListItem(list, func(item runtime.Object) error {
		object, err := meta.Accessor(item)
		if err != nil {
			return err
		}
		names = append(names, object.GetName())
		return nil
	})
	return names, err
}

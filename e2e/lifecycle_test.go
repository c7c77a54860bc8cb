package e2e

import (
	"context"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

// The life of one cluster on each engine, told in order.
var _ = Describe("a cluster of three members", func() {
	for _, engine := range []v1alpha1.Engine{v1alpha1.EngineRocksDB, v1alpha1.EngineMemory} {
		Context("on engine "+string(engine), Ordered, func() {
			const replicas = 3
			var (
				namespace string
				c         *cluster
			)

			BeforeAll(func(ctx context.Context) {
				namespace = env.namespace(ctx)
				c = createCluster(ctx, namespace, "store", engine, replicas, lossy, func(object *v1alpha1.MetaStoreCluster) {
					if engine == v1alpha1.EngineMemory {
						object.Spec.DeletionPolicy = v1alpha1.DeletionDelete
					}
				})
			})
			JustAfterEach(func(ctx context.Context) { env.collectOnFailure(ctx, namespace) })

			It("becomes ready after it was applied", func(ctx context.Context) {
				object := c.untilReady(ctx)
				Expect(object.Status.ClusterID).NotTo(BeEmpty())
				Expect(object.Status.Leader).To(HavePrefix("store-"))
				for _, member := range object.Status.Members {
					Expect(member.Ready).To(BeTrue(), "member %s", member.Name)
					Expect(member.Role).To(BeElementOf(v1alpha1.RoleLeader, v1alpha1.RoleFollower), "member %s", member.Name)
				}
			}, NodeTimeout(readyTimeout))

			It("serves put, get, watch and leases through the client Service", func(ctx context.Context) {
				etcd := c.serviceClient(ctx)
				expectKeys(ctx, etcd, c.memberClient(ctx, 1))
				expectWatch(ctx, etcd)
				expectLease(ctx, etcd)
			}, NodeTimeout(time.Minute))

			It("loses nothing when each pod in turn is deleted", func(ctx context.Context) {
				w := startWriter(c.serviceClient(ctx), "deleted/")
				for ordinal := range replicas {
					w.expectProgress(ctx, 20)
					By("deleting pod " + c.podName(ordinal))
					c.replacePod(ctx, ordinal)
					c.untilReady(ctx)
				}
				w.expectProgress(ctx, 20)
				w.checkAll(ctx, c.serviceClient(ctx))
				c.expectSameData(ctx, replicas)
			}, NodeTimeout(10*time.Minute))

			It("goes on while a node is down and takes its member back", func(ctx context.Context) {
				env.needsNodes()
				node := c.pod(ctx, replicas-1).Spec.NodeName
				w := startWriter(c.serviceClient(ctx), "power/")
				w.expectProgress(ctx, 20)

				By("pulling the plug of " + node)
				env.power(ctx, "stop", node)
				DeferCleanup(func(ctx context.Context) { env.power(ctx, "start", node) })
				Eventually(env.nodeReady).WithContext(ctx).WithArguments(node).WithTimeout(nodeTimeout).Should(BeFalse())
				w.expectProgress(ctx, 50)

				By("starting " + node)
				env.power(ctx, "start", node)
				Eventually(env.nodeReady).WithContext(ctx).WithArguments(node).WithTimeout(nodeTimeout).Should(BeTrue())
				c.untilReady(ctx)
				w.checkAll(ctx, c.serviceClient(ctx))
				c.expectSameData(ctx, replicas)
			}, NodeTimeout(10*time.Minute))

			if engine == v1alpha1.EngineRocksDB {
				It("has a member whose data are corrupt replaced, and clients do not see it", func(ctx context.Context) {
					env.needsNodes()
					c.expectCorruptReplaced(ctx, 1, replicas)
				}, NodeTimeout(readyTimeout))

				It("takes writes again after history has filled its quota", func(ctx context.Context) {
					c.expectSpaceFreed(ctx, replicas)
				}, NodeTimeout(readyTimeout))

				It("leaves its volumes, and only them, when it is deleted", func(ctx context.Context) {
					c.remove(ctx)
					Expect(c.claims(ctx)).To(HaveLen(replicas))
				}, NodeTimeout(readyTimeout))
				return
			}

			It("stands still while it is paused, sleeps, and wakes with its data", func(ctx context.Context) {
				c.expectSleepAndWake(ctx, replicas)
			}, NodeTimeout(readyTimeout))

			It("takes its volumes along when it is deleted, as its policy says", func(ctx context.Context) {
				c.remove(ctx)
				Eventually(c.claims).WithContext(ctx).WithTimeout(readyTimeout).Should(BeEmpty())
			}, NodeTimeout(readyTimeout))
		})
	}
})

// expectKeys writes through one client and reads through another, on another member.
func expectKeys(ctx context.Context, etcd, other *clientv3.Client) {
	GinkgoHelper()
	By("putting and getting")
	binary := string([]byte{0, 1, 0xff, '\n'})
	for _, key := range []string{"keys/a", "keys/b", "keys/" + binary} {
		_, err := etcd.Put(ctx, key, "value of "+key)
		Expect(err).NotTo(HaveOccurred())
	}
	response, err := other.Get(ctx, "keys/", clientv3.WithPrefix())
	Expect(err).NotTo(HaveOccurred())
	var got []string
	for _, kv := range response.Kvs {
		got = append(got, string(kv.Key)+"="+string(kv.Value))
	}
	Expect(got).To(Equal([]string{
		"keys/" + binary + "=value of keys/" + binary, "keys/a=value of keys/a", "keys/b=value of keys/b",
	}))
	txn, err := etcd.Txn(ctx).If(clientv3.Compare(clientv3.Value("keys/a"), "=", "value of keys/a")).
		Then(clientv3.OpPut("keys/a", "changed")).Commit()
	Expect(err).NotTo(HaveOccurred())
	Expect(txn.Succeeded).To(BeTrue())
}

// expectWatch sees a put and a delete in order, with the previous value.
func expectWatch(ctx context.Context, etcd *clientv3.Client) {
	GinkgoHelper()
	By("watching")
	before, err := etcd.Put(ctx, "watched/key", "first")
	Expect(err).NotTo(HaveOccurred())
	events := etcd.Watch(ctx, "watched/", clientv3.WithPrefix(), clientv3.WithRev(before.Header.Revision), clientv3.WithPrevKV())
	_, err = etcd.Put(ctx, "watched/key", "second")
	Expect(err).NotTo(HaveOccurred())
	_, err = etcd.Delete(ctx, "watched/key")
	Expect(err).NotTo(HaveOccurred())
	var seen []string
	for len(seen) < 3 {
		var response clientv3.WatchResponse
		Eventually(ctx, events).WithTimeout(progressTimeout).Should(Receive(&response))
		Expect(response.Err()).NotTo(HaveOccurred())
		for _, event := range response.Events {
			line := event.Type.String() + " " + string(event.Kv.Value)
			if event.PrevKv != nil {
				line += " after " + string(event.PrevKv.Value)
			}
			seen = append(seen, strings.TrimSpace(line))
		}
	}
	Expect(seen).To(Equal([]string{"PUT first", "PUT second after first", "DELETE  after second"}))
}

// expectLease holds a key by keep-alives for longer than its time to live, and
// sees it go without.
func expectLease(ctx context.Context, etcd *clientv3.Client) {
	GinkgoHelper()
	By("leasing")
	const ttlSeconds = 3
	lease, err := etcd.Grant(ctx, ttlSeconds)
	Expect(err).NotTo(HaveOccurred())
	_, err = etcd.Put(ctx, "leased/key", "held", clientv3.WithLease(lease.ID))
	Expect(err).NotTo(HaveOccurred())
	held := func(ctx context.Context) (int64, error) {
		response, err := etcd.Get(ctx, "leased/key", clientv3.WithCountOnly())
		if err != nil {
			return 0, err
		}
		return response.Count, nil
	}

	aliveCtx, stop := context.WithCancel(ctx)
	defer stop()
	answers, err := etcd.KeepAlive(aliveCtx, lease.ID)
	Expect(err).NotTo(HaveOccurred())
	go func() {
		for range answers { // the client wants its answers read
		}
	}()
	Consistently(held).WithContext(ctx).WithTimeout(2 * ttlSeconds * time.Second).Should(BeEquivalentTo(1))
	stop()
	Eventually(held).WithContext(ctx).WithTimeout(progressTimeout).Should(BeEquivalentTo(0))
}

// leftovers names what is in a namespace besides volume claims and what
// Kubernetes itself puts there.
func leftovers(ctx context.Context, namespace string) ([]string, error) {
	var names []string
	for _, list := range []client.ObjectList{
		&v1alpha1.MetaStoreClusterList{}, &appsv1.StatefulSetList{}, &corev1.PodList{}, &corev1.ServiceList{},
		&corev1.ConfigMapList{}, &corev1.SecretList{}, &policyv1.PodDisruptionBudgetList{},
	} {
		if err := env.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, err
		}
		objects, err := objectNames(list)
		if err != nil {
			return nil, err
		}
		for _, name := range objects {
			if name != "kube-root-ca.crt" {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

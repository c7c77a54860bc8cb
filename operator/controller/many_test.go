package controller

import (
	"flag"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/member"
)

var many = flag.Int("clusters", 10, "clusters that one operator looks after at the same time")

// One operator has many clusters. At rest it asks the API server nothing for
// them: what it reads is in caches, and there is nothing to write.
var _ = Describe("Many clusters", func() {
	It("cost one operator no calls while nothing changes", func(ctx SpecContext) {
		f := newFixture(ctx)
		calls := &callCounter{}
		passes := f.startCounting(calls)
		before, began := heap(), time.Now()
		for i := range *many {
			f.name = fmt.Sprintf("x-%d", i)
			f.create(1)
		}
		f.awaitAll(*many)
		AddReportEntry("figures", fmt.Sprintf("%d clusters ready after %s and %d calls of the operator",
			*many, time.Since(began).Round(time.Second), calls.take()))
		settled := passes.get()
		Eventually(passes.get).WithTimeout(patience).Should(BeNumerically(">=", settled+2**many), "looks at the clusters")
		calls.take() // the last reports
		settled = passes.get()
		Eventually(passes.get).WithTimeout(patience).Should(BeNumerically(">=", settled+5**many), "looks at the clusters")
		made := calls.take()
		AddReportEntry("figures", fmt.Sprintf("%d calls in %d looks; %d KiB of heap a cluster, with all that the test keeps for it",
			made, passes.get()-settled, (heap()-before)/uint64(*many)>>10))
		Expect(made).To(BeZero())
	}, NodeTimeout(5*time.Minute))
})

// startCounting starts an operator whose calls are counted, and counts its passes.
func (f *fixture) startCounting(calls *callCounter) (passes *counted) {
	GinkgoHelper()
	config := rest.CopyConfig(shipped)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return calls.before(next) })
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Cache: CacheOptions(f.namespace),
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
	})
	Expect(err).NotTo(HaveOccurred())
	r := f.reconciler(mgr.GetClient(), mgr.GetAPIReader(), nil)
	r.Concurrency, passes = 4, &counted{} // as shipped
	r.Now = func() time.Time {
		passes.add()
		return time.Now()
	}
	namespace := f.namespace
	r.Members = func(c *v1alpha1.MetaStoreCluster, _ member.Credentials) member.Access {
		return nodes.fake(namespace, c.Name)
	}
	f.run(mgr, r)
	return passes
}

// awaitAll waits until n clusters of the namespace are ready.
func (f *fixture) awaitAll(n int) {
	GinkgoHelper()
	Eventually(func(g Gomega) int {
		list := &v1alpha1.MetaStoreClusterList{}
		g.Expect(kube.List(f.ctx, list, client.InNamespace(f.namespace))).To(Succeed())
		ready := 0
		for _, c := range list.Items {
			if meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady) {
				ready++
			}
		}
		return ready
	}).WithTimeout(4 * time.Minute).Should(Equal(n))
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

type counted struct {
	mu sync.Mutex
	n  int
}

func (c *counted) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *counted) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// callCounter counts requests to the API server; a watch is one when it begins.
type callCounter struct{ calls counted }

// take returns the number of calls since it was last asked.
func (c *callCounter) take() int {
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	n := c.calls.n
	c.calls.n = 0
	return n
}

func (c *callCounter) before(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Query().Get("watch") == "" {
			c.calls.add()
		}
		return next.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

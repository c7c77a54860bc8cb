package e2e

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// requestTimeout is what a patient application gives a request.
const requestTimeout = 10 * time.Second

// checker finds out whether clients see a change. Its clients are as Go makes
// them, with the retries that they have by themselves: some on the Service, some
// on the names of all members. Each puts, reads, runs transactions and deletes
// without a pause, and counts what failed; one watches all the while and must see
// every put once and in order, and one holds a lease.
type checker struct {
	prefix     string
	ttlSeconds int64 // of the lease; a client gives it up after as long without an answer
	stop       context.CancelFunc
	running    sync.WaitGroup

	mu       sync.Mutex
	requests int
	failures map[string]int // by what the client was told
	slowest  time.Duration
	puts     map[string]int // acknowledged puts by client
	watched  map[string]int // the number of the last put seen, by client
	broken   []string       // what must never happen
}

// startChecker runs until end, or until the spec's container is left.
func (c *cluster) startChecker(ctx context.Context, prefix string, replicas int, edits ...func(*checker)) *checker {
	GinkgoHelper()
	run, cancel := context.WithCancel(context.Background())
	k := &checker{prefix: prefix, ttlSeconds: 15, stop: cancel, failures: map[string]int{}, puts: map[string]int{}, watched: map[string]int{}}
	for _, edit := range edits {
		edit(k)
	}
	DeferCleanup(k.end)
	watching, holding := c.defaultClient(ctx, replicas), c.defaultClient(ctx, 0)
	before, err := watching.Get(ctx, prefix)
	Expect(err).NotTo(HaveOccurred())
	k.goes(func() { k.watch(run, watching, before.Header.Revision+1) })
	lease, err := holding.Grant(ctx, k.ttlSeconds)
	Expect(err).NotTo(HaveOccurred())
	k.goes(func() { k.hold(run, holding, lease.ID) })
	for i := range 4 {
		etcd := c.defaultClient(ctx, replicas*(i%2)) // the Service, or the members
		k.goes(func() { k.work(run, etcd, fmt.Sprintf("%sclient%d/", prefix, i)) })
	}
	return k
}

// patient is for clients of a cluster that loses its quorum for a while.
func patient(k *checker) { k.ttlSeconds = 120 }

// defaultClient is a client with nothing but its addresses: the Service, or the
// names of as many members.
func (c *cluster) defaultClient(ctx context.Context, members int) *clientv3.Client {
	GinkgoHelper()
	if members == 0 {
		address, dial := c.serviceAddress(ctx)
		return clientOf(clientv3.Config{Endpoints: []string{"http://" + address}, DialOptions: dialWith(dial)})
	}
	var endpoints []string
	for ordinal := range members {
		endpoints = append(endpoints, fmt.Sprintf("http://%s:%d", c.podName(ordinal), clientPort))
	}
	return clientOf(clientv3.Config{Endpoints: endpoints, DialOptions: dialWith(c.dialPod)})
}

func dialWith(dial func(context.Context, string) (net.Conn, error)) []grpc.DialOption {
	if dial == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithContextDialer(dial)}
}

func clientOf(config clientv3.Config) *clientv3.Client {
	GinkgoHelper()
	config.Logger = zap.NewNop() // what it retries is what the specs provoke
	etcd, err := clientv3.New(config)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(etcd.Close)
	return etcd
}

func (k *checker) goes(fn func()) { k.running.Go(fn) }

// work is one application.
func (k *checker) work(ctx context.Context, etcd *clientv3.Client, prefix string) {
	for i := 1; ctx.Err() == nil; i++ {
		key, value := prefix+fmt.Sprint(i), fmt.Sprint(i)
		if k.ask(ctx, "put", func(ctx context.Context) error {
			_, err := etcd.Put(ctx, prefix+"count", value)
			return err
		}) {
			k.acknowledged(prefix, i)
		}
		k.ask(ctx, "txn", func(ctx context.Context) error {
			_, err := etcd.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), "=", 0)).Then(clientv3.OpPut(key, value)).Commit()
			return err
		})
		k.ask(ctx, "get", func(ctx context.Context) error {
			_, err := etcd.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(10))
			return err
		})
		k.ask(ctx, "delete", func(ctx context.Context) error {
			_, err := etcd.Delete(ctx, key)
			return err
		})
	}
}

// ask makes one request; its outcome counts unless the end cut it off.
func (k *checker) ask(ctx context.Context, what string, fn func(context.Context) error) bool {
	asked, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	began := time.Now()
	err := fn(asked)
	if ctx.Err() != nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.requests++
	k.slowest = max(k.slowest, time.Since(began))
	if err != nil {
		k.failures[what+": "+err.Error()]++
	}
	return err == nil
}

func (k *checker) acknowledged(prefix string, i int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.puts[prefix] = i
}

// watch sees the counters of all clients go up by one at a time. A put that
// failed may have happened or not, so only going back or seeing twice is wrong
// then; checkNothingSeen compares the ends.
func (k *checker) watch(ctx context.Context, etcd *clientv3.Client, from int64) {
	for response := range etcd.Watch(ctx, k.prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if err := response.Err(); err != nil && ctx.Err() == nil {
			k.breaks("the watch ended: %v", err)
		}
		for _, event := range response.Events {
			prefix, isCounter := strings.CutSuffix(string(event.Kv.Key), "count")
			if isCounter {
				k.saw(prefix, string(event.Kv.Value))
			}
		}
	}
}

func (k *checker) saw(prefix, value string) {
	var i int
	if _, err := fmt.Sscan(value, &i); err != nil {
		k.breaks("the watch saw %q", value)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if last := k.watched[prefix]; i != last+1 && len(k.failures) == 0 || i <= last {
		k.broken = append(k.broken, fmt.Sprintf("the watch of %s saw %d after %d", prefix, i, last))
	}
	k.watched[prefix] = i
}

// hold keeps a lease alive for as long as the checker runs.
func (k *checker) hold(ctx context.Context, etcd *clientv3.Client, lease clientv3.LeaseID) {
	answers, err := etcd.KeepAlive(ctx, lease)
	if err != nil {
		k.breaks("keep alive: %v", err)
		return
	}
	for range answers {
	}
	if ctx.Err() == nil {
		k.breaks("the lease was lost")
	}
}

func (k *checker) breaks(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.broken = append(k.broken, fmt.Sprintf(format, args...))
}

func (k *checker) end() {
	k.stop()
	k.running.Wait()
}

// expectNoFailure prints what was counted since the last call, and forgets it.
func (k *checker) expectNoFailure(scenario string) {
	GinkgoHelper()
	failures := k.expectNothingBroken(scenario)
	Expect(failures).To(BeEmpty(), "clients saw the change")
}

// expectNothingBroken does so where requests may fail for a while. It returns
// how many did, by what the client was told.
func (k *checker) expectNothingBroken(scenario string) map[string]int {
	GinkgoHelper()
	k.mu.Lock()
	defer k.mu.Unlock()
	failed := 0
	for _, what := range slices.Sorted(maps.Keys(k.failures)) {
		failed += k.failures[what]
		GinkgoWriter.Printf("%6d x %s\n", k.failures[what], what)
	}
	AddReportEntry("downtime", fmt.Sprintf("%s: %d requests, %d failed, the slowest took %s",
		scenario, k.requests, failed, k.slowest.Round(time.Millisecond)))
	Expect(k.requests).To(BeNumerically(">", 100), "the clients hardly asked anything")
	Expect(k.broken).To(BeEmpty())
	k.requests, k.slowest = 0, 0
	return k.failures
}

// expectRequests waits until so many more requests were answered.
func (k *checker) expectRequests(ctx context.Context, n int) {
	GinkgoHelper()
	answered := func() int {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.requests
	}
	from := answered()
	Eventually(answered).WithContext(ctx).WithTimeout(progressTimeout).Should(BeNumerically(">=", from+n), "the clients make no progress")
}

// expectAllWatched waits until the watch has seen every acknowledged put.
func (k *checker) expectAllWatched(ctx context.Context) {
	GinkgoHelper()
	k.mu.Lock()
	want := maps.Clone(k.puts)
	k.mu.Unlock()
	Eventually(func() []string {
		k.mu.Lock()
		defer k.mu.Unlock()
		var missing []string
		for prefix, i := range want {
			if k.watched[prefix] < i {
				missing = append(missing, fmt.Sprintf("%s: saw %d of %d", prefix, k.watched[prefix], i))
			}
		}
		return missing
	}).WithContext(ctx).WithTimeout(progressTimeout).Should(BeEmpty())
}

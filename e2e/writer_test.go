package e2e

import (
	"context"
	"fmt"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// writer puts one new key after the other, as fast as a patient client does,
// and remembers which puts were acknowledged. A put that failed may or may not
// have happened; its key is not written again.
type writer struct {
	prefix string
	etcd   *clientv3.Client
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	acked   map[string]string
	failed  int
	lastAck time.Time
	longest time.Duration // the longest time between two acknowledgements
}

// startWriter writes below prefix until checkAll, or until the spec ends.
func startWriter(etcd *clientv3.Client, prefix string) *writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{prefix: prefix, etcd: etcd, stop: cancel, done: make(chan struct{}), acked: map[string]string{}, lastAck: time.Now()}
	go w.run(ctx)
	DeferCleanup(w.end)
	return w
}

func (w *writer) run(ctx context.Context) {
	defer close(w.done)
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		key, value := fmt.Sprintf("%s%08d", w.prefix, i), fmt.Sprintf("value of %d", i)
		putCtx, cancel := context.WithTimeout(ctx, requestTimeout)
		_, err := w.etcd.Put(putCtx, key, value)
		cancel()
		if ctx.Err() == nil { // else the end cut it off
			w.record(key, value, err)
		}
	}
}

func (w *writer) record(key, value string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failed++
		return
	}
	now := time.Now()
	w.longest = max(w.longest, now.Sub(w.lastAck))
	w.lastAck = now
	w.acked[key] = value
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// expectProgress waits until n more puts are acknowledged.
func (w *writer) expectProgress(ctx context.Context, n int) {
	GinkgoHelper()
	from := w.count()
	Eventually(w.count).WithContext(ctx).WithTimeout(progressTimeout).Should(BeNumerically(">=", from+n), "the writer makes no progress")
}

func (w *writer) end() {
	w.stop()
	<-w.done
}

// checkAll ends the writer and compares what was acknowledged with what
// another client, on any member, reads.
func (w *writer) checkAll(ctx context.Context, reader *clientv3.Client) {
	GinkgoHelper()
	w.end()
	response, err := reader.Get(ctx, w.prefix, clientv3.WithPrefix())
	Expect(err).NotTo(HaveOccurred())
	found := make(map[string]string, len(response.Kvs))
	for _, kv := range response.Kvs {
		found[string(kv.Key)] = string(kv.Value)
	}
	var lost []string
	for key, value := range w.acked {
		if found[key] != value {
			lost = append(lost, key)
		}
	}
	GinkgoWriter.Printf("writer: %d puts acknowledged, %d failed, longest time without one %s\n", len(w.acked), w.failed, w.longest.Round(time.Millisecond))
	Expect(w.acked).NotTo(BeEmpty())
	Expect(lost).To(BeEmpty(), "acknowledged writes are gone")
}

package bench

import (
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What latencies are told apart: half a microsecond at least, three digits.
const (
	shortest = time.Microsecond
	longest  = 100 * time.Second
	figures  = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(shortest), int64(longest), figures)
}

// recorder collects latencies by kind of operation.
type recorder struct {
	kinds  []string
	shards []*shard

	// mu guards what tick writes.
	mu            sync.Mutex
	began, ticked time.Time
	totals        []*hdrhistogram.Histogram
	interval      *hdrhistogram.Histogram
	series        []Second
}

// shard takes the latencies of some slots since the last tick.
type shard struct {
	mu     sync.Mutex
	counts []*hdrhistogram.Histogram
}

func newRecorder(kinds []string) *recorder {
	r := &recorder{kinds: kinds, interval: newHistogram()}
	r.totals = histograms(len(kinds))
	for range min(8, runtime.GOMAXPROCS(0)) {
		r.shards = append(r.shards, &shard{counts: histograms(len(kinds))})
	}
	return r
}

// start begins the time.
func (r *recorder) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began = time.Now()
	r.ticked = r.began
}

func histograms(n int) []*hdrhistogram.Histogram {
	list := make([]*hdrhistogram.Histogram, n)
	for i := range list {
		list[i] = newHistogram()
	}
	return list
}

func (r *recorder) shard(i int) *shard { return r.shards[i%len(r.shards)] }

func (s *shard) record(kind int, d time.Duration) {
	s.mu.Lock()
	_ = s.counts[kind].RecordValue(int64(min(max(d, 0), longest))) // within its limits
	s.mu.Unlock()
}

// tick ends an interval of the series; all kinds count in it.
func (r *recorder) tick() Second {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.interval.Reset()
	for _, s := range r.shards {
		s.mu.Lock()
		for kind, h := range s.counts {
			if h.TotalCount() > 0 {
				r.totals[kind].Merge(h)
				r.interval.Merge(h)
				h.Reset()
			}
		}
		s.mu.Unlock()
	}
	n := r.interval.TotalCount()
	last := Second{
		At: now.Sub(r.began).Seconds(), Operations: n,
		Throughput: float64(n) / max(now.Sub(r.ticked).Seconds(), 1e-6),
		P50:        micros(r.interval.ValueAtQuantile(50)), P99: micros(r.interval.ValueAtQuantile(99)),
	}
	r.ticked = now
	r.series = append(r.series, last)
	return last
}

// at is a percentile of a kind until the last tick, in microseconds.
func (r *recorder) at(kind int, percentile float64) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return micros(r.totals[kind].ValueAtQuantile(percentile))
}

// all is what was recorded of the kinds from..to-1 until the last tick.
func (r *recorder) all(from, to int) *hdrhistogram.Histogram {
	sum := newHistogram()
	for _, h := range r.totals[from:to] {
		sum.Merge(h)
	}
	return sum
}

func micros(nanos int64) float64 { return float64(nanos) / 1000 }

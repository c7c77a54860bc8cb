package watch

import (
	"fmt"
	"sync/atomic"
	"testing"

	"metastore.io/metastore/server/state"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// still is a source of which nobody reads history.
type still struct{ Source }

func (still) Rev() int64 { return 1 }

// benchRun is how many revisions are published together.
const benchRun = 16

// BenchmarkPublish publishes runs of 16 puts of one key and waits until all
// watchers have them; ns/event is of one event at one watcher.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct{ streams, watchers, matching int }{{1, 1, 1}, {100, 1000, 1000}, {1000, 1000, 1000}, {100, 10_000, 100}} {
		b.Run(fmt.Sprintf("streams=%d/watchers=%d/matching=%d", c.streams, c.watchers, c.matching), func(b *testing.B) {
			h := NewHub(still{}, Options{})
			defer h.Close()
			var left atomic.Int64
			all := make(chan struct{}, 1)
			for range c.streams {
				s := h.NewStream()
				go s.Run(b.Context(), func(r Response) error {
					if n := int64(r.Count()); n > 0 && left.Add(-n) == 0 {
						all <- struct{}{}
					}
					return nil
				})
				for i := range c.watchers / c.streams {
					key := "watched"
					if i*c.streams >= c.matching {
						key = fmt.Sprint("other", i)
					}
					if err := s.Create(b.Context(), Request{ID: int64(i + 1), Key: []byte(key)}); err != nil {
						b.Fatal(err)
					}
				}
			}
			rev := int64(1)
			events := 0
			b.ReportAllocs()
			for b.Loop() {
				revs := make([]state.RevisionEvents, benchRun)
				for i := range revs {
					rev++
					kv := &mvccpb.KeyValue{Key: []byte("watched"), Value: make([]byte, 256), ModRevision: rev}
					revs[i] = state.RevisionEvents{Rev: rev, Events: []*mvccpb.Event{{Kv: kv}}}
				}
				left.Store(int64(benchRun * c.matching))
				h.Publish(revs)
				<-all
				events += benchRun * c.matching
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
		})
	}
}

package mvcc

import (
	"errors"
	"fmt"
	"testing"

	"metastore.io/metastore/server/engine"
)

func benchKeys(n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "/registry/things/default/%07d", i*7919%n)
	}
	return keys
}

var benchValue = make([]byte, 256)

// fill puts all keys in batches of 10,000 commands.
func fill(b *testing.B, s *Store, keys [][]byte) {
	b.Helper()
	eb := engine.NewBatch()
	for len(keys) > 0 {
		n := min(len(keys), 10000)
		putBatch(b, s, eb, keys[:n])
		keys = keys[n:]
	}
}

func putBatch(b *testing.B, s *Store, eb *engine.Batch, keys [][]byte) {
	eb.Reset()
	w := s.Writer(eb)
	for _, k := range keys {
		w.Begin()
		w.Put(k, benchValue, 0)
		w.End()
	}
	if err := errors.Join(w.Finish(), s.engine.Apply(eb)); err != nil {
		b.Fatal(err)
	}
	w.Publish()
}

// BenchmarkPutBatch applies 10,000 puts as one batch; ns/put is the figure.
func BenchmarkPutBatch(b *testing.B) {
	const size = 10000
	for _, again := range []bool{false, true} {
		name := "new keys"
		if again {
			name = "the same keys"
		}
		b.Run(name, func(b *testing.B) {
			s := openStore(b, openEngine(b, b.TempDir()))
			eb := engine.NewBatch()
			keys := benchKeys(size)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !again {
					b.StopTimer()
					for j := range keys {
						keys[j] = fmt.Appendf(keys[j][:0], "/registry/things/default/%05d-%06d", j*7919%size, i)
					}
					b.StartTimer()
				}
				putBatch(b, s, eb, keys)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/put")
		})
	}
}

// BenchmarkStage is the same without the engine: what mvcc itself costs.
func BenchmarkStage(b *testing.B) {
	s := openStore(b, openEngine(b, b.TempDir()))
	keys := benchKeys(10000)
	fill(b, s, keys)
	eb := engine.NewBatch()
	w := s.Writer(eb)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%10000 == 0 {
			eb.Reset()
		}
		w.Begin()
		w.Put(keys[i%len(keys)], benchValue, 0)
		w.End()
	}
}

// BenchmarkPutSingle is a batch of one put, applied and published.
func BenchmarkPutSingle(b *testing.B) {
	s := openStore(b, openEngine(b, b.TempDir()))
	keys := benchKeys(100000)
	eb := engine.NewBatch()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at := i % len(keys)
		putBatch(b, s, eb, keys[at:at+1])
	}
}

func benchFull(b *testing.B, n int) (*Store, [][]byte) {
	s := openStore(b, openEngine(b, b.TempDir()))
	keys := benchKeys(n)
	fill(b, s, keys)
	b.ReportAllocs()
	b.ResetTimer()
	return s, keys
}

func benchRange(b *testing.B, s *Store, key, end []byte, o RangeOptions, count int64) {
	for b.Loop() {
		if r, err := s.Range(key, end, o); err != nil || r.Count != count {
			b.Fatal(r.Count, err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s, keys := benchFull(b, 100000)
	b.Run("one goroutine", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if r, err := s.Range(keys[i%len(keys)], nil, RangeOptions{}); err != nil || r.Count != 1 {
				b.Fatal(r, err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if r, err := s.Range(keys[i%len(keys)], nil, RangeOptions{}); err != nil || r.Count != 1 {
					b.Error(r, err)
				}
			}
		})
	})
}

func BenchmarkRange10k(b *testing.B) {
	s, _ := benchFull(b, 10000)
	for name, o := range map[string]RangeOptions{"newest": {}, "keys only": {KeysOnly: true}, "old revision": {Rev: s.Rev() - 1}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			benchRange(b, s, []byte{0}, []byte{0}, o, 10000-min(o.Rev, 1))
		})
	}
}

func BenchmarkCount1M(b *testing.B) {
	s, _ := benchFull(b, 1000000)
	b.Run("all", func(b *testing.B) {
		benchRange(b, s, []byte{0}, []byte{0}, RangeOptions{CountOnly: true}, 1000000)
	})
	b.Run("half", func(b *testing.B) {
		benchRange(b, s, []byte("/registry/things/default/0500000"), []byte("/registry0"), RangeOptions{CountOnly: true}, 500000)
	})
	b.Run("limit 1", func(b *testing.B) {
		benchRange(b, s, []byte{0}, []byte{0}, RangeOptions{Limit: 1}, 1000000)
	})
}

// BenchmarkOpen1M rebuilds the index from the rows of 1M keys.
func BenchmarkOpen1M(b *testing.B) {
	s, _ := benchFull(b, 1000000)
	for b.Loop() {
		openStore(b, s.engine)
	}
}

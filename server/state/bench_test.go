package state

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/mvcc"
)

// The benchmarks are in process, over the memory engine: what a member does with
// committed entries and with reads that need no round, and nothing else.

const (
	benchKeys  = 100_000
	benchBatch = 10_000
)

// benchCommands are puts of values of 256 bytes, n of all keys in an order of no
// kind.
func benchCommands(b *testing.B, n int) []Command {
	b.Helper()
	cmds := make([]Command, n)
	for i := range cmds {
		key := fmt.Appendf(nil, "/registry/things/default/%07d", i*7919%benchKeys)
		body, err := proto.Marshal(&pb.PutRequest{Key: key, Value: make([]byte, 256)})
		if err != nil {
			b.Fatal(err)
		}
		cmds[i] = Command{Kind: KindPut, Body: body}
	}
	return cmds
}

func (m *testMachine) applyBench(b *testing.B, cmds []Command) {
	if _, err := m.Apply([]Entry{m.entry(cmds...)}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkApplyBatch applies entries of 10,000 puts each, which nobody watches.
func BenchmarkApplyBatch(b *testing.B) {
	m := newMachine(b)
	m.Bare(true)
	cmds := benchCommands(b, benchKeys)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		from := i % (benchKeys / benchBatch) * benchBatch
		m.applyBench(b, cmds[from:from+benchBatch])
	}
	perSecond(b, int64(b.N)*benchBatch)
}

// BenchmarkApplySingle applies entries of one put each, which nobody watches.
func BenchmarkApplySingle(b *testing.B) {
	m := newMachine(b)
	m.Bare(true)
	cmds := benchCommands(b, benchKeys)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.applyBench(b, cmds[i%benchKeys:][:1])
	}
}

// BenchmarkMixed has 50 goroutines: one applies entries of 100 puts, as long as
// the others read keys at will. Reads and puts count.
func BenchmarkMixed(b *testing.B) {
	const readers, batch, chunk = 49, 100, 1000
	m := newMachine(b)
	cmds := benchCommands(b, benchKeys)
	m.applyBench(b, cmds)
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for r := range readers {
		all.Add(1)
		go func() {
			defer all.Done()
			rng, key := rand.New(rand.NewPCG(1, uint64(r))), []byte(nil)
			for left.Add(-chunk) > -chunk {
				for range chunk {
					key = fmt.Appendf(key[:0], "/registry/things/default/%07d", rng.IntN(benchKeys))
					if found, err := m.KV().Range(key, nil, mvcc.RangeOptions{}); err != nil || len(found.KVs) != 1 {
						b.Errorf("key %s: %d found, %v", key, len(found.KVs), err)
						return
					}
				}
			}
		}()
	}
	var puts int64
	for left.Load() > 0 {
		from := int(puts) % benchKeys
		m.applyBench(b, cmds[from:from+batch])
		puts += batch
	}
	all.Wait()
	perSecond(b, int64(b.N)+puts)
	b.ReportMetric(float64(puts)/float64(int64(b.N)+puts)*100, "%puts")
}

func perSecond(b *testing.B, ops int64) {
	b.ReportMetric(float64(ops)/b.Elapsed().Seconds(), "ops/s")
}

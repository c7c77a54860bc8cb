package enginetest

import (
	"encoding/binary"
	"fmt"
	"testing"

	"metastore.io/metastore/server/engine"
)

// benchRows fill the engine that the read benchmarks use.
const benchRows = 100_000

// revisionKey is a key of the length and order that mvcc uses.
func revisionKey(i uint64) []byte {
	var rest [17]byte
	binary.BigEndian.PutUint64(rest[:], i)
	rest[8] = '_'
	return engine.GroupID(1).Key(rest[:])
}

// Bench measures the operations that a server's speed hangs on, with rows like
// mvcc's and values of 128 bytes.
func Bench(b *testing.B, o engine.Opener) {
	value := make([]byte, 128)
	for _, rows := range []int{1, 256} {
		b.Run(fmt.Sprintf("Apply%d", rows), func(b *testing.B) { benchApply(b, o, rows, value) })
	}
	e := benchEngine(b, o, value)
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if _, ok, err := e.Get(revisions, revisionKey(shuffled(i))); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("GetMany64", func(b *testing.B) {
		b.ReportAllocs()
		keys, values := make([][]byte, 64), make([][]byte, 64)
		for i := range b.N {
			for j := range keys {
				keys[j] = revisionKey(shuffled(i*64 + j))
			}
			if err := e.GetMany(revisions, keys, values); err != nil || values[63] == nil {
				b.Fatal(err)
			}
		}
	})
	for _, rows := range []int{1, 1000} {
		b.Run(fmt.Sprintf("Scan%d", rows), func(b *testing.B) { benchScan(b, e, rows) })
	}
	b.Run("Snapshot", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			s, err := e.Snapshot()
			if err != nil {
				b.Fatal(err)
			}
			_ = s.Close()
		}
	})
}

// shuffled visits the rows in an order that is not ascending.
func shuffled(i int) uint64 { return uint64(i) * 7919 % benchRows }

func openBench(b *testing.B, o engine.Opener) engine.Engine {
	b.Helper()
	e, err := o.Open(b.TempDir() + "/engine")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	return e
}

func benchEngine(b *testing.B, o engine.Opener, value []byte) engine.Engine {
	b.Helper()
	e := openBench(b, o)
	batch := engine.NewBatch()
	for i := range uint64(benchRows) {
		batch.Put(revisions, revisionKey(i), value)
		if batch.Len() == 1000 {
			if err := e.Apply(batch); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
	if err := e.Flush(); err != nil {
		b.Fatal(err)
	}
	return e
}

func benchApply(b *testing.B, o engine.Opener, rows int, value []byte) {
	e := openBench(b, o)
	batch := engine.NewBatch()
	next := uint64(0)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		batch.Reset()
		for range rows {
			batch.Put(revisions, revisionKey(next), value)
			next++
		}
		batch.Put(meta, []byte("applied"), binary.BigEndian.AppendUint64(nil, next))
		if err := e.Apply(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func benchScan(b *testing.B, e engine.Engine, rows int) {
	b.ReportAllocs()
	for i := range b.N {
		n := 0
		err := e.Scan(revisions, revisionKey(shuffled(i)%(benchRows-1000)), nil, func(_, _ []byte) (bool, error) {
			n++
			return n < rows, nil
		})
		if err != nil || n != rows {
			b.Fatal(n, err)
		}
	}
}

package raftlog

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/disk"
)

// BenchmarkAppend is the time of one Append, sync included, on the disk that
// holds the temporary folder.
func BenchmarkAppend(b *testing.B) {
	for _, count := range []int{1, 64} {
		for _, dataBytes := range []int{256, 4096} {
			b.Run(fmt.Sprintf("entries=%d/bytes=%d", count, dataBytes), func(b *testing.B) {
				l, err := Open(Options{FS: disk.OS(), Dir: b.TempDir()})
				must(b, err)
				defer func() { must(b, l.Close()) }()
				data := make([]byte, dataBytes)
				next, term, commit := uint64(1), uint64(1), uint64(0)
				b.SetBytes(int64(count * dataBytes))
				b.ReportAllocs()
				var took []time.Duration
				for b.Loop() {
					entries := make([]*raftpb.Entry, count)
					for i := range entries {
						index := next
						entries[i] = &raftpb.Entry{Index: &index, Term: &term, Data: data}
						next++
					}
					start := time.Now()
					must(b, l.Append([]Write{{Group: 1, HardState: hard(1, 1, commit), Entries: entries}}))
					took = append(took, time.Since(start))
					commit = next - 1
					if commit > 10000 {
						must(b, l.Compact(1, commit-10000))
					}
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
				b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
			})
		}
	}
}

// BenchmarkOpen is the time of a first start.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		l, err := Open(Options{FS: disk.OS(), Dir: b.TempDir()})
		must(b, err)
		must(b, l.Close())
	}
}

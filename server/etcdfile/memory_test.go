package etcdfile

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/state"
)

// A snapshot of 100,000 keys with history is made and sent with the memory of a
// batch: what is held beside the store does not grow with the file.
func TestWriteHoldsOneBatch(t *testing.T) {
	const keys, rounds, valueBytes, limitBytes = 100_000, 2, 512, 32 << 20
	s := newStore(t)
	if err := s.Bootstrap(77, []state.Member{{ID: 0xa, PeerURLs: []string{"http://a:2380"}}}); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, valueBytes)
	rnd := rand.New(rand.NewPCG(1, 1))
	for range rounds {
		for k := 0; k < keys; k += 500 {
			var cmds []state.Command
			for i := range 500 {
				for j := range value {
					value[j] = byte(rnd.Uint32())
				}
				body, err := proto.Marshal(&pb.PutRequest{Key: fmt.Appendf(nil, "key/%06d", k+i), Value: value})
				if err != nil {
					t.Fatal(err)
				}
				cmds = append(cmds, state.Command{Kind: state.KindPut, Body: body})
			}
			s.apply(state.Entry{Commands: cmds})
		}
	}
	snap := s.snapshot()
	// Every allocation counts as soon as it is not needed any more.
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	runtime.GC()
	before := heapBytes()
	var peak uint64
	look := func() { peak = max(peak, heapBytes()) }
	snap.Snapshot = looking{snap.Snapshot, look}
	tmp, err := Write(t.Context(), t.TempDir(), snap)
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.Close()
	n := 0
	err = tmp.Stream(func(chunk []byte, _ int64) error {
		if n++; n%64 == 0 {
			look()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if tmp.SizeBytes() < 3*limitBytes {
		t.Fatalf("the file has %d bytes only", tmp.SizeBytes())
	}
	grown := int64(peak) - int64(before)
	t.Logf("%d bytes were made and sent with %d bytes of memory more", tmp.SizeBytes(), grown)
	if grown > limitBytes {
		t.Errorf("memory grew by %d bytes, at most %d are allowed", grown, limitBytes)
	}
}

// looking looks now and then while rows are read.
type looking struct {
	engine.Snapshot
	look func()
}

func (l looking) Scan(s engine.Space, from, to []byte, fn func(k, v []byte) (bool, error)) error {
	n := 0
	return l.Snapshot.Scan(s, from, to, func(k, v []byte) (bool, error) {
		if n++; n%500 == 0 {
			l.look()
		}
		return fn(k, v)
	})
}

// heapBytes is what the heap holds that may be reachable.
func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

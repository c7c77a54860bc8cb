package main

import (
	"strings"
	"testing"

	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/node"
)

// The figures are those that the operator sets for the same containers.
func TestGoLimit(t *testing.T) {
	const mib = int64(1) << 20
	for _, tc := range []struct{ total, native, want int64 }{
		{1000 * mib, 0, 850 * mib}, // the memory engine
		{128 * mib, 48 * mib, 60 * mib},
		{512 * mib, 192 * mib, 243 * mib},
		{16384 * mib, 4352 * mib, 9574 * mib},
		{1024 * mib, 224 * mib, 646 * mib}, // RocksDB's defaults
		{256 * mib, 224 * mib, 64 * mib},   // too small: the heap keeps its part
	} {
		if got := goLimit(tc.total, tc.native); got != tc.want {
			t.Errorf("of %d MiB with %d of RocksDB the heap gets %d, want %d", tc.total/mib, tc.native/mib, got/mib, tc.want/mib)
		}
	}
}

func TestNativeBytes(t *testing.T) {
	c := node.DefaultConfig()
	c.RocksDB = rocksdb.DefaultOptions()
	c.StorageEngine = node.EngineRocksDB
	if got := nativeBytes(&c); got != 224<<20 {
		t.Errorf("RocksDB takes %d, want 224 MiB", got)
	}
	c.StorageEngine = node.EngineMemory
	if got := nativeBytes(&c); got != 0 {
		t.Errorf("the memory engine takes %d outside the heap", got)
	}
}

func TestGoLimitOfEnvironment(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "123MiB")
	m := newMember(t, "m", node.EngineMemory)
	m.start()
	m.waitServing()
	if out := m.out.String(); strings.Count(out, `"msg":"memory limit of the Go heap","bytes":128974848,"source":"GOMEMLIMIT"`) != 1 {
		t.Errorf("it says:\n%s", tail(out, 40))
	}
	m.terminate()
}

//go:build rocksdb

package rocksdb

import (
	"testing"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/enginetest"
)

func TestContract(t *testing.T) {
	enginetest.Run(t, func(*testing.T) engine.Opener { return Opener{} })
}

// TestDurabilityWithTinyBuffers makes RocksDB flush and compact by itself all the
// time: what it leaves behind must be a prefix of the batches then as well.
func TestDurabilityWithTinyBuffers(t *testing.T) {
	o := DefaultOptions()
	o.WriteBufferBytes = 64 << 10
	o.BlockCacheBytes = 1 << 20
	o.Level0FileNumCompactionTrigger = 2
	enginetest.RunDurability(t, func(*testing.T) engine.Opener { return Opener{Options: o} })
}

func BenchmarkRocksDB(b *testing.B) {
	enginetest.Bench(b, Opener{})
}

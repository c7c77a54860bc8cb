//go:build rocksdb

package state

import (
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/engine/rocksdb"
)

// testEngines are the engines that this build has.
func testEngines() map[string]engine.Opener {
	return map[string]engine.Opener{"memory": memory.Opener{}, "rocksdb": rocksdb.Opener{}}
}

//go:build !rocksdb

package state

import (
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
)

// testEngines are the engines that this build has.
func testEngines() map[string]engine.Opener {
	return map[string]engine.Opener{"memory": memory.Opener{}}
}

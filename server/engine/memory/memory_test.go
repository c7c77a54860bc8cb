package memory

import (
	"testing"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/enginetest"
)

func TestContract(t *testing.T) {
	enginetest.Run(t, func(*testing.T) engine.Opener { return Opener{FS: disk.OS()} })
}

func BenchmarkMemory(b *testing.B) {
	enginetest.Bench(b, Opener{})
}

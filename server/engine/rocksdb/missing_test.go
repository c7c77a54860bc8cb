//go:build !rocksdb

package rocksdb

import (
	"os"
	"strings"
	"testing"
)

func TestOpenWithoutRocksDBSaysHowToBuildIt(t *testing.T) {
	dir := t.TempDir()
	_, err := Opener{}.Open(dir)
	if err == nil || !strings.Contains(err.Error(), "built without RocksDB") || !strings.Contains(err.Error(), "-tags rocksdb") {
		t.Errorf("got %v, want an error that says how to build with RocksDB", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("the folder was touched: %v, %v", names, err)
	}
	if Built {
		t.Error("Built is true")
	}
}

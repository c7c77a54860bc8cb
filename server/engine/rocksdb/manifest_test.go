//go:build rocksdb

package rocksdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metastore.io/metastore/server/engine"
)

// Every flipped bit of the manifest and of the file that names it is found
// before RocksDB sees it, and the file is named; a manifest that ends early, as
// after a power failure, is left to RocksDB.
func TestManifestDamageIsFound(t *testing.T) {
	dir := flushedDir(t)
	for range 3 { // records beside the first ones
		e := openRocks(t, Options{}, dir)
		putRows(t, e, 50)
		if err := errors.Join(e.Flush(), e.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := checkManifest(dir); err != nil {
		t.Fatal(err)
	}
	for pattern, step := range map[string]int{"MANIFEST-*": 101, "CURRENT": 1} { // the disk is slow
		name, content := newest(t, filepath.Join(dir, pattern))
		for bit := 0; bit < len(content)*8; bit += step {
			content[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
			err := checkManifest(dir)
			if !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), name) {
				t.Fatalf("bit %d of %s: %v", bit, name, err)
			}
			content[bit/8] ^= 1 << (bit % 8)
		}
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, all := newest(t, filepath.Join(dir, "MANIFEST-*"))
	for bit := range len(all) * 8 {
		all[bit/8] ^= 1 << (bit % 8)
		if damagedRecord(all) < 0 {
			t.Fatalf("bit %d of the manifest is not found", bit)
		}
		all[bit/8] ^= 1 << (bit % 8)
	}
	name, content := newest(t, filepath.Join(dir, "MANIFEST-*"))
	if err := os.WriteFile(name, content[:len(content)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkManifest(dir); err != nil {
		t.Errorf("a torn tail: %v", err)
	}
}

// Records go on in the next block.
func TestManifestOfSeveralBlocks(t *testing.T) {
	dir := t.TempDir()
	e := openRocks(t, Options{}, dir)
	for i := 0; ; i++ {
		putRows(t, e, 1+i)
		if err := e.Flush(); err != nil {
			t.Fatal(err)
		}
		if _, content := newest(t, filepath.Join(dir, "MANIFEST-*")); len(content) > manifestBlockBytes+1000 {
			break
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	name, content := newest(t, filepath.Join(dir, "MANIFEST-*"))
	if at := damagedRecord(content); at >= 0 {
		t.Fatalf("%s: a sound record at %d is called damaged", name, at)
	}
	content[5] ^= 0x40 // the first record's length: it seems to reach beyond the block
	if at := damagedRecord(content); at != 0 {
		t.Errorf("a damaged length in the first block: %d", at)
	}
	if err := readAll(dir); err != nil {
		t.Error(fmt.Errorf("open: %w", err))
	}
}

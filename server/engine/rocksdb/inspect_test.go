//go:build rocksdb

package rocksdb

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"metastore.io/metastore/server/engine"
)

// storedRows makes a folder with a closed database of two table files a space.
func storedRows(t *testing.T, rows int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "1")
	e := openRocks(t, DefaultOptions(), dir)
	for range 2 {
		putRows(t, e, rows)
		if err := e.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// readTree is all files of a folder by their names.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	tree := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		tree[f.Name()] = string(b)
	}
	return tree
}

// An inspected database can be read, written to, flushed and rewritten, and
// nothing of it reaches its folder.
func TestInspectorLeavesTheDatabaseAsItIs(t *testing.T) {
	const rows = 500
	dir := storedRows(t, rows)
	before := readTree(t, dir)
	e, err := Inspector{Scratch: t.TempDir()}.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		t.Helper()
		err := e.Scan(engine.Revisions, nil, nil, func(_, _ []byte) (bool, error) { n++; return true, nil })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(); n != rows {
		t.Errorf("it has %d rows, want %d", n, rows)
	}
	putRows(t, e, rows+100)
	if err := errors.Join(e.Flush(), e.Defragment()); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != rows+100 {
		t.Errorf("after writes it has %d rows, want %d", n, rows+100)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if after := readTree(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the folder has changed")
	}
}

// Damage of a table file is found wherever it lies, also where no read comes.
func TestInspectorFindsDamageAnywhere(t *testing.T) {
	dir := storedRows(t, 30)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%v, %v", tables, err)
	}
	content, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	// The footer has room that means nothing (table/format.cc of RocksDB).
	const footerBytes = 53
	for at := 0; at < len(content)-footerBytes; at += 23 {
		damaged := bytes.Clone(content)
		damaged[at] ^= 4
		if err := os.WriteFile(tables[0], damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := Inspector{Scratch: t.TempDir()}.Open(dir)
		if err == nil {
			err = errors.Join(errors.New("nothing found"), e.Close())
		}
		if !errors.Is(err, engine.ErrCorrupt) {
			t.Errorf("offset %d of %d: %v", at, len(content), err)
		}
	}
}

package disk

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Over an overlay everything reads as if it had been written, and on disk
// nothing changes.
func TestOverlayKeepsWritesInMemory(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"kept", "renamed", "removed", "tree/inner/file"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(at(name)), 0o700), os.WriteFile(at(name), []byte(name), 0o400)); err != nil {
			t.Fatal(err)
		}
	}
	before := treeOf(t, dir)
	o := Overlay()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(WriteFile(o, dir, "made", []byte("new")))
	check(WriteFile(o, dir, "kept", []byte("other")))
	check(o.Rename(at("renamed"), at("moved")))
	check(o.Remove(at("removed")))
	check(o.RemoveAll(at("tree")))
	check(o.MkdirAll(at("empty")))

	names, err := o.List(dir)
	if want := []string{"kept", "made", "moved"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("it lists %q, %v, want %q", names, err, want)
	}
	for name, want := range map[string]string{"made": "new", "kept": "other", "moved": "renamed"} {
		if b, err := ReadFile(o, at(name), 99); err != nil || string(b) != want {
			t.Errorf("%s reads %q, %v, want %q", name, b, err, want)
		}
	}
	for _, name := range []string{"removed", "renamed", "tree/inner/file", "never"} {
		if _, err := o.Open(at(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %s: %v, want that it is not there", name, err)
		}
	}
	if names, err := o.List(at("empty")); err != nil || len(names) != 0 {
		t.Errorf("a new folder lists %q, %v", names, err)
	}
	if _, err := o.List(at("never")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder lists with %v", err)
	}
	if after := treeOf(t, dir); after != before {
		t.Errorf("the disk has changed:\n%s\nwas\n%s", after, before)
	}
}

// A file of an overlay reads as a slice that got the same writes.
func TestOverlayFileIsAFile(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(1 + r.IntN(255))
		}
		return b
	}
	want := random(100)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, want, 0o400); err != nil {
		t.Fatal(err)
	}
	f, err := Overlay().Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 300 {
		if r.IntN(5) == 0 {
			n := r.IntN(150)
			want = append(want[:min(n, len(want))], make([]byte, max(n-len(want), 0))...)
			if err := f.Truncate(int64(n)); err != nil {
				t.Fatal(err)
			}
		} else {
			at, b := r.IntN(150), random(r.IntN(30))
			if len(b) > 0 {
				want = append(want, make([]byte, max(at+len(b)-len(want), 0))...)
				copy(want[at:], b)
			}
			if _, err := f.WriteAt(b, int64(at)); err != nil {
				t.Fatal(err)
			}
			if len(b) == 0 {
				want = append(want, make([]byte, max(at-len(want), 0))...)
			}
		}
		from := r.IntN(len(want) + 1)
		got := make([]byte, r.IntN(len(want)-from+20))
		n, err := f.ReadAt(got, int64(from))
		expected := want[from:min(from+len(got), len(want))]
		if !bytes.Equal(got[:n], expected) || (err != nil) != (n < len(got)) || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%d bytes at %d read %x, %v, want %x", len(got), from, got[:n], err, expected)
		}
	}
}

// The lock of a file that is there counts, and none is made.
func TestOverlayLock(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "LOCK")
	free, err := Overlay().Lock(name)
	if err := errors.Join(err, free.Close()); err != nil {
		t.Fatal(err)
	}
	if tree := treeOf(t, dir); tree != "" {
		t.Fatalf("locking made %s", tree)
	}
	held, err := OS().Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Overlay().Lock(name); !errors.Is(err, ErrLocked) {
		t.Fatalf("a held lock: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	ours, err := Overlay().Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OS().Lock(name); !errors.Is(err, ErrLocked) {
		t.Fatalf("a lock that the overlay holds: %v", err)
	}
	if err := ours.Close(); err != nil {
		t.Fatal(err)
	}
}

// treeOf is all files of a folder with their content.
func treeOf(t *testing.T, dir string) string {
	t.Helper()
	var all bytes.Buffer
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		all.WriteString(name + ": " + string(b) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

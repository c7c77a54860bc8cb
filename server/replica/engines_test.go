package replica

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
)

func mark(t *testing.T, e engine.Engine, s string) {
	t.Helper()
	b := engine.NewBatch()
	b.Put(engine.Meta, []byte("mark"), []byte(s))
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
}

func marked(t *testing.T, e engine.Engine) string {
	t.Helper()
	v, _, err := e.Get(engine.Meta, []byte("mark"))
	if err != nil {
		t.Fatal(err)
	}
	return string(v)
}

// An import counts from Adopt on and not before, also when the process ends
// right there; what is left over is removed at the next start.
func TestEnginesImport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "engine")
	opener := memory.Opener{FS: disk.OS()}
	reopen := func() (*Engines, engine.Engine) {
		t.Helper()
		es, e, err := OpenEngines(disk.OS(), dir, opener)
		if err != nil {
			t.Fatal(err)
		}
		return es, e
	}
	es, e := reopen()
	mark(t, e, "old")
	imp, err := es.Import()
	if err != nil {
		t.Fatal(err)
	}
	mark(t, imp.Engine, "new")

	es, e = reopen()
	if got := marked(t, e); got != "old" {
		t.Fatalf("before Adopt the engine in use is %q", got)
	}
	names, err := disk.OS().List(dir)
	if err != nil || !slices.Equal(names, []string{"1", "CURRENT"}) {
		t.Fatalf("an unfinished import was left: %q, %v", names, err)
	}
	if imp, err = es.Import(); err != nil {
		t.Fatal(err)
	}
	mark(t, imp.Engine, "new")
	if err := imp.Adopt(); err != nil {
		t.Fatal(err)
	}

	_, e = reopen()
	if got := marked(t, e); got != "new" {
		t.Fatalf("after Adopt the engine in use is %q", got)
	}
}

// ownFolderOnly is a disk for an engine that syncs its own folder and not, as the
// memory engine does when it opens, the one that it lies in.
type ownFolderOnly struct{ *memdisk.FS }

func (f ownFolderOnly) SyncDir(dir string) error {
	if dir == "engine" {
		return nil
	}
	return f.FS.SyncDir(dir)
}

// Whatever bit of CURRENT flips, and whether it has a checksum or was written
// before there was one, no other engine is opened and none is removed.
func TestEnginesRefuseADamagedCurrent(t *testing.T) {
	for _, content := range []string{"", "3\n"} {
		f := memdisk.New(1)
		if err := f.MkdirAll("engine"); err != nil {
			t.Fatal(err)
		}
		es, e, err := OpenEngines(f, "engine", memory.Opener{FS: f})
		if err != nil {
			t.Fatal(err)
		}
		mark(t, e, "old")
		for range 2 {
			imp, err := es.Import()
			if err != nil {
				t.Fatal(err)
			}
			mark(t, imp.Engine, "new")
			if err := errors.Join(imp.Adopt(), es.RemoveReplaced()); err != nil {
				t.Fatal(err)
			}
		}
		if content == "" {
			b, err := disk.ReadFile(f, "engine/CURRENT", 64)
			if err != nil {
				t.Fatal(err)
			}
			content = string(b)
		}
		for bit := range int64(8 * len(content)) {
			c := f.Clone(1)
			if err := disk.WriteFile(c, "engine", "CURRENT", []byte(content)); err != nil {
				t.Fatal(err)
			}
			if err := c.FlipBit("engine/CURRENT", bit); err != nil {
				t.Fatal(err)
			}
			_, _, err := OpenEngines(c, "engine", memory.Opener{FS: c})
			if !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), "engine/CURRENT: offset 0") {
				t.Errorf("a flip of bit %d of %q: %v", bit, content, err)
			}
			names, err := c.List("engine")
			if err != nil || !slices.Contains(names, "3") {
				t.Errorf("after a flip of bit %d of %q: %v, %v", bit, content, names, err)
			}
		}
	}
}

// A process that is stopped in Adopt, between the renaming of CURRENT and the
// sync of its folder, may find the new engine at the next start. From then on it
// stays in use, also when the power fails.
func TestEnginesCutOffAdoptStays(t *testing.T) {
	for seed := range uint64(30) {
		f := memdisk.New(seed)
		opener := memory.Opener{FS: ownFolderOnly{f}}
		es, e, err := OpenEngines(f, "engine", opener)
		if err := errors.Join(err, f.SyncDir(".")); err != nil {
			t.Fatal(err)
		}
		mark(t, e, "old")
		imp, err := es.Import()
		if err != nil {
			t.Fatal(err)
		}
		mark(t, imp.Engine, "new")
		f.FailSync(2) // the folder, the content of CURRENT, the folder again
		if err := imp.Adopt(); err == nil {
			t.Fatal("the last sync of Adopt succeeds, so that this tests nothing")
		}
		if _, e, err = OpenEngines(f, "engine", opener); err != nil {
			t.Fatal(err)
		}
		if got := marked(t, e); got != "new" {
			t.Fatalf("after the cut-off Adopt the engine in use is %q", got)
		}
		f.Crash()
		if _, e, err = OpenEngines(f, "engine", opener); err != nil {
			t.Fatal(err)
		}
		if got := marked(t, e); got != "new" {
			t.Fatalf("seed %d: after a power cut the engine in use is %q again", seed, got)
		}
	}
}

package backup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"metastore.io/metastore/server/disk"
)

var errCrash = errors.New("crash")

// crashing ends the work of a process before its nth change of the disk: that
// one and all later ones fail, as if nobody were there to make them.
type crashing struct {
	disk.FS
	left int
}

func (c *crashing) change() error {
	if c.left == 0 {
		return errCrash
	}
	c.left--
	return nil
}

func (c *crashing) Create(name string) (disk.File, error) {
	if err := c.change(); err != nil {
		return nil, err
	}
	return c.FS.Create(name)
}

func (c *crashing) MkdirAll(dir string) error {
	if err := c.change(); err != nil {
		return err
	}
	return c.FS.MkdirAll(dir)
}

func (c *crashing) Rename(from, to string) error {
	if err := c.change(); err != nil {
		return err
	}
	return c.FS.Rename(from, to)
}

func (c *crashing) Remove(name string) error {
	if err := c.change(); err != nil {
		return err
	}
	return c.FS.Remove(name)
}

func (c *crashing) RemoveAll(name string) error {
	if err := c.change(); err != nil {
		return err
	}
	return c.FS.RemoveAll(name)
}

func (c *crashing) SyncDir(dir string) error {
	if err := c.change(); err != nil {
		return err
	}
	return c.FS.SyncDir(dir)
}

func (c *crashing) Lock(name string) (io.Closer, error) {
	if err := c.change(); err != nil {
		return nil, err
	}
	return c.FS.Lock(name)
}

// oldFiles are those of the data dir that is replaced.
var oldFiles = []string{"a", "b", "c"}

// kept is a data dir with a backup to replace it by.
type kept struct {
	t       *testing.T
	options RestoreOptions
	dir     string
}

// newKept makes the data dir unless it is to be missing.
func newKept(t *testing.T, dest string, there bool) *kept {
	k := &kept{t: t, dir: filepath.Join(t.TempDir(), "data")}
	k.options = restoreOptions("b", dest, k.dir)
	for _, f := range oldFiles {
		if there {
			if err := os.MkdirAll(k.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(k.dir, f), []byte(f))
		}
	}
	return k
}

// restore restores until the process crashes; a negative left is never.
func (k *kept) restore(left int) (*Restored, error) {
	k.t.Helper()
	r, err := newRestorer(k.options)
	if err != nil {
		k.t.Fatal(err)
	}
	r.swap.fs = &crashing{FS: disk.OS(), left: left}
	return r.restore(k.t.Context())
}

func (k *kept) swap(left int) *swap {
	s, err := newSwap(&crashing{FS: disk.OS(), left: left}, k.dir, "w1")
	if err != nil {
		k.t.Fatal(err)
	}
	return s
}

// isOld and isNew look at what a folder holds.
func (k *kept) isOld(dir string) bool {
	for _, f := range oldFiles {
		if b, err := os.ReadFile(filepath.Join(dir, f)); err != nil || string(b) != f {
			return false
		}
	}
	return true
}

func (k *kept) isNew(dir string) bool {
	found, err := k.swap(-1).readSeal(dir)
	return err == nil && found != nil
}

// wantOnly wants nothing beside the data dir but these.
func (k *kept) wantOnly(what string, suffixes ...string) {
	k.t.Helper()
	want := map[string]bool{}
	for _, s := range suffixes {
		want["data"+s] = true
	}
	for _, n := range names(k.t, filepath.Dir(k.dir)) {
		if !want[n] {
			k.t.Errorf("%s leaves %s", what, n)
		}
	}
}

// A restore that crashes before any of its changes leaves the old data dir whole
// where it was or beside, and is done by the next one. So are undo and finish.
func TestRestoreSurvivesEveryCrash(t *testing.T) {
	endpoint, _ := serve(t, 5)
	dest := t.TempDir()
	m := take(t, endpoint, "b", dest, nil)
	for _, there := range []bool{true, false} {
		crashes := 0
		for ; ; crashes++ {
			k := newKept(t, dest, there)
			_, err := k.restore(crashes)
			what := fmt.Sprintf("a restore that crashes before change %d", crashes)
			if there && !k.isOld(k.dir) && !k.isOld(k.dir+".before-w1") {
				t.Fatalf("%s: the old data dir is gone", what)
			}
			if there && !k.isOld(k.dir) && !k.isNew(k.dir) && !k.isNew(k.dir+".new-w1") {
				t.Fatalf("%s: nothing is in place, and nothing whole waits for it", what)
			}
			for range 2 {
				done, again := k.restore(-1)
				if again != nil || done.Revision != m.Revision || *done.Manifest != *m || !k.isNew(k.dir) {
					t.Fatalf("%s, and is repeated: %+v, %v", what, done, again)
				}
			}
			k.wantOnly(what, "", ".before-w1")
			if err == nil {
				break
			}
			if !errors.Is(err, errCrash) {
				t.Fatalf("%s ends with %v", what, err)
			}
		}
		if crashes < 8 {
			t.Errorf("a restore has %d changes: the test does not see them", crashes)
		}
	}
}

func TestUndoSurvivesEveryCrash(t *testing.T) {
	endpoint, _ := serve(t, 5)
	dest := t.TempDir()
	take(t, endpoint, "b", dest, nil)
	for _, there := range []bool{true, false} {
		for crash, err := 0, errCrash; err != nil; crash++ {
			k := newKept(t, dest, there)
			if _, err := k.restore(-1); err != nil {
				t.Fatal(err)
			}
			if err = k.swap(crash).undo(); err != nil && !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			what := fmt.Sprintf("an undo that crashes before change %d", crash)
			for range 2 {
				if err := Undo(k.dir, "w1"); err != nil {
					t.Fatalf("%s, and is repeated: %v", what, err)
				}
			}
			if there != k.isOld(k.dir) {
				t.Fatalf("%s: the old data dir is not back", what)
			}
			if k.wantOnly(what, ""); !there {
				k.wantOnly(what)
			}
		}
	}
}

func TestFinishSurvivesEveryCrash(t *testing.T) {
	endpoint, _ := serve(t, 5)
	dest := t.TempDir()
	take(t, endpoint, "b", dest, nil)
	for crash, err := 0, errCrash; err != nil; crash++ {
		k := newKept(t, dest, true)
		wantReason(t, "finish before a restore", Finish(k.dir, "w1"), Failed)
		if _, err := k.restore(-1); err != nil {
			t.Fatal(err)
		}
		if err = k.swap(crash).finish(); err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		what := fmt.Sprintf("a finish that crashes before change %d", crash)
		if !k.isOld(k.dir + ".before-w1") {
			wantReason(t, "undo after "+what, Undo(k.dir, "w1"), Failed)
		}
		for range 2 {
			if err := Finish(k.dir, "w1"); err != nil {
				t.Fatalf("%s, and is repeated: %v", what, err)
			}
		}
		if k.wantOnly(what, ""); !k.isNew(k.dir) {
			t.Errorf("%s: the restored data dir is gone", what)
		}
	}
}

// A data dir that is in use is not replaced, and one without a word has to be new.
func TestDataDirIsProtected(t *testing.T) {
	endpoint, _ := serve(t, 5)
	dest := t.TempDir()
	take(t, endpoint, "b", dest, nil)
	k := newKept(t, dest, true)
	lock, err := disk.OS().Lock(filepath.Join(k.dir, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.restore(-1)
	if wantReason(t, "a data dir in use", err, Failed); !k.isOld(k.dir) {
		t.Error("a data dir in use is moved")
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	k.options.Once = ""
	_, err = k.restore(-1)
	wantReason(t, "a data dir that exists", err, AlreadyExists)
	wantReason(t, "undo without a word", Undo(k.dir, ""), InvalidArgument)
	k.options.Once = "a/b"
	if _, err := newRestorer(k.options); ReasonOf(err) != InvalidArgument {
		t.Errorf("a word with a slash: %v", err)
	}
}

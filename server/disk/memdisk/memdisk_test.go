package memdisk_test

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/disk/memdisk"
)

// The contract of disk.FS, on the operating system and in memory.
func TestFileSystems(t *testing.T) {
	t.Run("os", func(t *testing.T) { testFS(t, disk.OS(), t.TempDir()) })
	t.Run("mem", func(t *testing.T) { testFS(t, memdisk.New(1), "/data") })
}

func testFS(t *testing.T, d disk.FS, root string) {
	dir := filepath.Join(root, "a", "b")
	must(t, d.MkdirAll(dir))
	must(t, d.MkdirAll(dir))
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")

	if _, err := d.Open(one); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open of a missing file: %v", err)
	}
	write(t, d, one, "first content")
	write(t, d, two, "old")
	f, err := d.Create(one) // replaces
	must(t, err)
	_, err = f.WriteAt([]byte("xyz"), 4)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Truncate(6))
	if size, err := f.SizeBytes(); err != nil || size != 6 {
		t.Fatalf("size %d, %v; want 6", size, err)
	}
	must(t, d.Rename(one, two))
	must(t, d.SyncDir(dir))
	if got := read(t, f); got != "\x00\x00\x00\x00xy" {
		t.Fatalf("handle after rename reads %q", got)
	}
	must(t, f.Close())
	if names, err := d.List(dir); err != nil || len(names) != 1 || names[0] != "two" {
		t.Fatalf("list: %v, %v", names, err)
	}
	must(t, d.Remove(two))
	if err := d.Remove(two); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("second remove: %v", err)
	}
	must(t, d.RemoveAll(filepath.Join(root, "a")))
	must(t, d.RemoveAll(filepath.Join(root, "a")))
	if _, err := d.List(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("list of a missing folder: %v", err)
	}
	testLock(t, d, filepath.Join(root, "LOCK"))
}

func testLock(t *testing.T, d disk.FS, name string) {
	held, err := d.Lock(name)
	must(t, err)
	if _, err := d.Lock(name); !errors.Is(err, disk.ErrLocked) {
		t.Fatalf("second lock: %v", err)
	}
	must(t, held.Close())
	held, err = d.Lock(name)
	must(t, err)
	must(t, held.Close())
}

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	lost := map[string]int{}
	for seed := range uint64(200) {
		d := memdisk.New(seed)
		must(t, d.MkdirAll("/d"))
		must(t, d.SyncDir("/"))
		f := write(t, d, "/d/named", "synced")
		must(t, d.SyncDir("/d"))
		_, err := f.WriteAt(bytes.Repeat([]byte("u"), 3*512), 0)
		must(t, err)
		write(t, d, "/d/unnamed", "x")
		held, err := d.Lock("/d/LOCK")
		must(t, err)
		d.Crash()

		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, memdisk.ErrCrashed) {
			t.Fatalf("seed %d: a dead handle wrote: %v", seed, err)
		}
		must(t, held.Close())
		if _, err := d.Lock("/d/LOCK"); err != nil {
			t.Fatalf("seed %d: the lock outlived the crash: %v", seed, err)
		}
		f, err = d.Open("/d/named")
		must(t, err)
		got := read(t, f)
		switch {
		case got == "synced":
			lost["all"]++
		case len(got) == 3*512 && got == string(bytes.Repeat([]byte("u"), 3*512)):
			lost["nothing"]++
		default:
			lost["some"]++
		}
		if _, err := d.Open("/d/unnamed"); err != nil {
			lost["name"]++
		}
	}
	for _, what := range []string{"all", "nothing", "some", "name"} {
		if lost[what] == 0 || lost[what] == 200 {
			t.Errorf("%d of 200 crashes lost %s: %v", lost[what], what, lost)
		}
	}
}

func TestCrashPointStopsEverything(t *testing.T) {
	d := memdisk.New(7)
	f := write(t, d, "/f", "abc")
	must(t, d.SyncDir("/"))
	d.CrashAfter(1)
	_, err := f.WriteAt([]byte("ABC"), 0)
	must(t, err)
	if err := f.Sync(); !errors.Is(err, memdisk.ErrCrashed) {
		t.Fatalf("sync at the crash point: %v", err)
	}
	if _, err := d.Open("/f"); !errors.Is(err, memdisk.ErrCrashed) {
		t.Fatalf("open after the crash point: %v", err)
	}
	d.Crash()
	if _, err := d.Open("/f"); err != nil {
		t.Fatalf("open after the crash: %v", err)
	}
}

func TestFailedSyncLosesTheBytesForGood(t *testing.T) {
	d := memdisk.New(3)
	f := write(t, d, "/f", "abc")
	must(t, d.SyncDir("/"))
	_, err := f.WriteAt([]byte("ABC"), 0)
	must(t, err)
	d.FailSync(0)
	if err := f.Sync(); !errors.Is(err, memdisk.ErrSync) {
		t.Fatalf("sync: %v", err)
	}
	must(t, f.Sync()) // says yes and saves nothing
	if got := read(t, f); got != "ABC" {
		t.Fatalf("before the crash: %q", got)
	}
	d.Crash()
	f, err = d.Open("/f")
	must(t, err)
	if got := read(t, f); got != "abc" {
		t.Fatalf("after the crash: %q", got)
	}
}

func TestCapacityAndFlips(t *testing.T) {
	d := memdisk.New(3)
	d.SetCapacity(10)
	f := write(t, d, "/f", "12345678")
	if n, err := f.WriteAt([]byte("abcd"), 8); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write on a full disk: %d, %v", n, err)
	}
	_, err := f.WriteAt([]byte("abcd"), 0) // replaces, needs no room
	must(t, err)
	must(t, f.Sync())
	must(t, d.SyncDir("/"))
	c := d.Clone(4)
	must(t, c.FlipBit("/f", 9)) // bit 1 of 'b'
	c.Crash()
	g, err := c.Open("/f")
	must(t, err)
	if got := read(t, g); got != "a`cd5678ab" {
		t.Fatalf("after the flip: %q", got)
	}
	if got := read(t, f); got != "abcd5678ab" {
		t.Fatalf("the original of the clone: %q", got)
	}
}

func TestRotIsReadUntilWrittenOrMended(t *testing.T) {
	d := memdisk.New(3)
	f := write(t, d, "/f", "abcd")
	must(t, d.Rot("/f", 0))
	must(t, d.Rot("/f", 3*8))
	if got := read(t, f); got != "`bce" {
		t.Fatalf("with rot: %q", got)
	}
	_, err := f.WriteAt([]byte("A"), 0)
	must(t, err)
	if got := read(t, f); got != "Abce" {
		t.Fatalf("after a write: %q", got)
	}
	d.Mend()
	if got := read(t, f); got != "Abcd" {
		t.Fatalf("mended: %q", got)
	}
}

func write(t *testing.T, d disk.FS, name, content string) disk.File {
	t.Helper()
	f, err := d.Create(name)
	must(t, err)
	_, err = f.WriteAt([]byte(content), 0)
	must(t, err)
	must(t, f.Sync())
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func read(t *testing.T, f disk.File) string {
	t.Helper()
	size, err := f.SizeBytes()
	must(t, err)
	p := make([]byte, size)
	_, err = f.ReadAt(p, 0)
	must(t, err)
	return string(p)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

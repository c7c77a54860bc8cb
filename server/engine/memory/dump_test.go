package memory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
)

// writeDump makes a folder with a dump of a few blocks and returns the file.
func writeDump(t testing.TB, rows, valueBytes int) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	e, err := Opener{}.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, e.(*memory), func(b *engine.Batch) {
		b.Put(engine.Meta, []byte("a"), []byte("1"))
		for i := range rows {
			b.Put(engine.Revisions, number(i), bytes.Repeat([]byte{byte(i)}, valueBytes))
		}
	})
	if err := errors.Join(e.Flush(), e.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, dumpName)
}

func TestEveryFlippedBitOfADumpIsFound(t *testing.T) {
	dir, file := writeDump(t, 2, 50)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		checkCorrupt(t, dir, file, bad, fmt.Sprintf("a flipped bit in byte %d", i))
	}
	for i := range good {
		checkCorrupt(t, dir, file, good[:i], fmt.Sprintf("a file cut to %d bytes", i))
	}
	checkCorrupt(t, dir, file, append(bytes.Clone(good), 0), "a byte behind the end")
}

func TestForeignBlocksOfADumpAreFound(t *testing.T) {
	dir, file := writeDump(t, 600, 1000)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	blocks := cutBlocks(good)
	if len(blocks) < 4 {
		t.Fatalf("the dump has %d blocks, want several", len(blocks))
	}
	join := func(order ...int) []byte {
		out := bytes.Clone(good[:headerBytes])
		for _, i := range order {
			out = append(out, blocks[i]...)
		}
		return out
	}
	last := len(blocks) - 1
	checkCorrupt(t, dir, file, join(0, last), "missing blocks")
	checkCorrupt(t, dir, file, join(0, 2, 1, last), "blocks in the wrong order")
	checkCorrupt(t, dir, file, join(0, 1, 1, last), "a block twice")
	checkCorrupt(t, dir, file, join(1, 0, 2, last), "spaces in the wrong order")
}

// cutBlocks splits what follows the header of a good dump.
func cutBlocks(dump []byte) (blocks [][]byte) {
	for rest := dump[headerBytes:]; len(rest) > 0; {
		n := blockHeaderBytes + int(binary.LittleEndian.Uint32(rest[4:]))
		blocks, rest = append(blocks, rest[:n]), rest[n:]
	}
	return blocks
}

func checkCorrupt(t *testing.T, dir, file string, content []byte, what string) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Opener{}.Open(dir)
	if err == nil {
		_ = e.Close()
	}
	if !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), file) ||
		!strings.Contains(err.Error(), "offset ") {
		t.Fatalf("%s: got %v, want %v with file and offset", what, err, engine.ErrCorrupt)
	}
}

func TestNewerDumpIsRefusedAsSuch(t *testing.T) {
	dir, file := writeDump(t, 1, 10)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content = append(newerHeader(), content[headerBytes:]...)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Opener{}.Open(dir)
	if err == nil || errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), "format version 2") {
		t.Errorf("got %v, want an error about the format version", err)
	}
}

func newerHeader() []byte {
	h := binary.LittleEndian.AppendUint32([]byte(dumpMagic), dumpVersion+1)
	return binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
}

// TestVersionOneDumpOpens keeps the format: the file under testdata was written
// by the first release and must always open.
func TestVersionOneDumpOpens(t *testing.T) {
	content, err := os.ReadFile("testdata/dump.v1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, dumpName), content, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Opener{}.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for s := range engine.Space(engine.SpaceCount) {
		err := e.Scan(s, nil, nil, func(key, value []byte) (bool, error) {
			got = append(got, fmt.Sprintf("%d %q %q", s, key, value))
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{`0 "" "empty key"`, `0 "applied" "\x00\x01"`, `1 "\x00\xff" ""`, `1 "r" "value"`}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got rows %v, want %v", got, want)
	}
	if err := errors.Join(e.Flush(), e.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(filepath.Join(dir, dumpName))
	if err != nil || !bytes.Equal(again, content) {
		t.Errorf("the dump written today differs (%v)", err)
	}
}

func TestInterruptedFlushLeavesTheOldDump(t *testing.T) {
	dir, _ := writeDump(t, 3, 10)
	part := filepath.Join(dir, partName)
	if err := os.WriteFile(part, []byte("half a dump"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Opener{}.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := e.(*memory).spaces[engine.Revisions].tree.rows; n != 3 {
		t.Errorf("got %d rows, want the 3 of the old dump", n)
	}
	if _, err := os.Stat(part); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the interrupted dump is still there: %v", err)
	}
}

// failingFS fails at one step of a flush.
type failingFS struct {
	disk.FS
	step string
}

var errDisk = errors.New("disk broken")

func (f failingFS) fail(step string) error {
	if f.step == step {
		return errDisk
	}
	return nil
}

func (f failingFS) Create(name string) (disk.File, error) {
	if err := f.fail("create"); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	return failingFile{file, f}, err
}

func (f failingFS) Rename(from, to string) error {
	return errors.Join(f.fail("rename"), f.FS.Rename(from, to))
}

func (f failingFS) SyncDir(dir string) error {
	return errors.Join(f.fail("sync dir"), f.FS.SyncDir(dir))
}

type failingFile struct {
	disk.File
	fs failingFS
}

func (f failingFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.fail("write"); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}
func (f failingFile) Sync() error  { return errors.Join(f.fs.fail("sync"), f.File.Sync()) }
func (f failingFile) Close() error { return errors.Join(f.fs.fail("close"), f.File.Close()) }

func TestFlushReportsEveryFailure(t *testing.T) {
	for _, step := range []string{"create", "write", "sync", "close", "rename", "sync dir"} {
		e := openMemory(t)
		e.fs = failingFS{disk.OS(), step}
		if err := e.Flush(); !errors.Is(err, errDisk) {
			t.Errorf("%s: got %v, want %v", step, err, errDisk)
		}
		if n := len(e.snapshots.open); n != 0 {
			t.Errorf("%s: the failed flush left %d snapshots open", step, n)
		}
	}
}

// FuzzDump decodes arbitrary files.
func FuzzDump(f *testing.F) {
	_, file := writeDump(f, 2, 10)
	good, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:headerBytes])
	f.Add(newerHeader())
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = decodeDump(bytes.NewReader(b), int64(len(b)), func(dumpRow) {})
	})
}

// FuzzDumpBlock decodes arbitrary payloads under a checksum that matches, and
// checks that what is accepted is what the encoder would have written.
func FuzzDumpBlock(f *testing.F) {
	f.Add(uint32(1), uint8(0), appendRow(nil, []byte("key"), []byte("value")))
	f.Add(uint32(2), uint8(1), appendRow(appendRow(nil, nil, nil), []byte("k"), nil))
	f.Add(uint32(0), uint8(1), []byte{})
	f.Add(uint32(1), uint8(0), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0})
	f.Fuzz(func(t *testing.T, rows uint32, space uint8, payload []byte) {
		file, blockSum := appendBlock(appendHeader(nil), kindRows, engine.Space(space), rows, payload)
		trailer := binary.LittleEndian.AppendUint64(nil, uint64(rows))
		trailer = binary.LittleEndian.AppendUint32(trailer, addCRC(0, blockSum))
		file, _ = appendBlock(file, kindTrailer, 0, 0, trailer)
		last, total := "", 0
		err := decodeDump(bytes.NewReader(file), int64(len(file)), func(r dumpRow) {
			if total > 0 && string(r.key) <= last {
				t.Fatalf("key %q after %q", r.key, last)
			}
			last = string(r.key)
			total += len(r.key) + len(r.value)
		})
		if err == nil && total > len(payload) {
			t.Fatalf("%d bytes of rows in a payload of %d", total, len(payload))
		}
		if err != nil && !errors.Is(err, engine.ErrCorrupt) {
			t.Fatalf("got %v, want %v", err, engine.ErrCorrupt)
		}
	})
}

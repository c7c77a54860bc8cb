package raftlog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/disk/memdisk"
)

// append describes one append that a test wrote: where it lies.
type appended struct {
	seg        string
	start, end int64
	records    []int64 // offsets
}

// writeLog makes a log of count appends, each with a run of entries for group
// 1 and one for group 2, and leaves it as a kill would.
func writeLog(t testing.TB, d disk.FS, count int) []appended {
	t.Helper()
	l := mustOpen(t, testOptions(d))
	var all []appended
	for i := range uint64(count) {
		must(t, l.Append([]Write{
			{Group: 1, HardState: hard(1, 1, i), Entries: run(i+1, 1, 1, 300)},
			{Group: 2, Entries: run(2*i+1, 1, 2, 100)},
		}))
		one, two := l.Group(1).positions[i], l.Group(2).positions[2*i]
		first := one.offset - runHeaderBytes - hardStateBytes - recordHeaderBytes
		all = append(all, appended{one.seg.name, first, l.tail().end, []int64{first, two.offset - runHeaderBytes - recordHeaderBytes}})
	}
	return all
}

// unvouch takes away the mark behind the last append, as a power failure may.
func unvouch(t *testing.T, d *memdisk.FS, last appended) {
	t.Helper()
	overwrite(t, d, last.seg, last.end, make([]byte, recordHeaderBytes))
}

func TestRecovery(t *testing.T) {
	const count = 14 // two segments and a part of the third
	type testCase struct {
		damage func(t *testing.T, d *memdisk.FS, a []appended)
		lost   int    // appends that recovery cuts
		want   string // in the error, which wraps ErrCorrupt; "": none
	}
	last := count - 1
	flipAt := func(d *memdisk.FS, a appended, offset int64) error { return d.FlipBit(a.seg, offset*8) }
	tests := map[string]testCase{
		"intact": {damage: func(*testing.T, *memdisk.FS, []appended) {}},
		"last append's last record torn": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				unvouch(t, d, a[last])
				must(t, flipAt(d, a[last], a[last].end-20))
			}, lost: 1},
		"last append damaged after a kill": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				must(t, flipAt(d, a[last], a[last].end-20))
			}, want: "0003.log: offset"},
		"length of the last append damaged after a kill": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				must(t, flipAt(d, a[last], a[last].records[1]+6))
			}, want: "0003.log: offset"},
		"the mark behind the last append damaged": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				must(t, flipAt(d, a[last], a[last].end+10))
			}},
		"last append's first record torn, its second whole": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				unvouch(t, d, a[last])
				must(t, flipAt(d, a[last], a[last].records[0]+50))
			}, lost: 1},
		"last append is zeros": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				unvouch(t, d, a[last])
				overwrite(t, d, a[last].seg, a[last].start, make([]byte, a[last].end-a[last].start))
			}, lost: 1},
		"garbage behind the last append": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				overwrite(t, d, a[last].seg, a[last].end, []byte(strings.Repeat("garbage!", 20)))
			}},
		"file ends behind the last append": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) { truncate(t, d, a[last].seg, a[last].end) }},
		"file ends within the last append": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) { truncate(t, d, a[last].seg, a[last].end-40) }, lost: 1},
		"append before the last damaged": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				must(t, flipAt(d, a[last-1], a[last-1].end-20))
			}, want: "0003.log: offset"},
		"append before the last is zeros": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				overwrite(t, d, a[last-1].seg, a[last-1].start, make([]byte, a[last-1].end-a[last-1].start))
			}, want: "0003.log: offset"},
		"first segment damaged": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) { must(t, flipAt(d, a[1], a[1].start+30)) },
			want:   "0001.log: offset"},
		"first segment's last append damaged": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				for i := range a {
					if a[i+1].seg != a[i].seg {
						must(t, flipAt(d, a[i], a[i].end-30))
						return
					}
				}
			}, want: "0001.log: offset"},
		"header damaged": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) { must(t, flipAt(d, a[last], 33)) },
			want:   "0003.log: offset 0"},
		"header cut": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) { truncate(t, d, a[last].seg, 0) },
			want:   "0003.log: offset 0"},
		"middle segment missing": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				must(t, d.Remove(filepath.Join(testDir, segmentName(2))))
			},
			want: "0002.log: offset 0"},
		"first segment missing": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) { must(t, d.Remove(a[0].seg)) },
			want:   "0002.log: offset 64"},
		"segments swapped": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				must(t, d.Rename(a[0].seg, filepath.Join(testDir, "x")))
				must(t, d.Rename(a[last].seg, a[0].seg))
				must(t, d.Rename(filepath.Join(testDir, "x"), a[last].seg))
			}, want: "0001.log: offset 0"},
		"foreign files": {
			damage: func(t *testing.T, d *memdisk.FS, a []appended) {
				for _, name := range []string{"LOCK", "1.log", "00000000000000000009.log.bak", sparePrefix + "x"} {
					_, err := d.Create(filepath.Join(testDir, name))
					must(t, err)
				}
			}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t, 1)
			a := writeLog(t, d, count)
			if a[last].seg != filepath.Join(testDir, segmentName(3)) || a[last-1].seg != a[last].seg {
				t.Fatalf("the last two appends are in %s and %s", a[last-1].seg, a[last].seg)
			}
			tt.damage(t, d, a)
			l, err := Open(testOptions(d))
			if tt.want != "" {
				wantCorrupt(t, err)
				if !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("error %q names not %q", err, tt.want)
				}
				return
			}
			must(t, err)
			begun := TornTail{}
			if tt.lost > 0 && name != "last append is zeros" {
				begun = TornTail{File: a[last].seg, Offset: a[last].start}
			}
			if got := l.TornTail(); got != begun && name != "the mark behind the last append damaged" {
				t.Errorf("it tells the torn tail %+v, want %+v", got, begun)
			}
			checkWritable(t, d, l, count-tt.lost)
		})
	}
}

// checkWritable wants the first count appends of writeLog, and that the log
// goes on from there, also after a crash.
func checkWritable(t *testing.T, d *memdisk.FS, l *Log, count int) {
	t.Helper()
	n := uint64(count)
	wantEntries(t, l.Group(1), run(1, 1, count, 300))
	wantEntries(t, l.Group(2), run(1, 1, 2*count, 100))
	must(t, l.Append([]Write{{Group: 1, Entries: run(n+1, 2, 1, 30)}}))
	d.Crash()
	l = mustOpen(t, testOptions(d))
	wantEntries(t, l.Group(1), append(run(1, 1, count, 300), run(n+1, 2, 1, 30)...))
	wantEntries(t, l.Group(2), run(1, 1, 2*count, 100))
}

// What is left of a torn append must not complete the append that is written
// in its place: both have records of the same length at the same offsets.
func TestTornAppendDoesNotMixWithTheNext(t *testing.T) {
	d := newDisk(t, 1)
	a := writeLog(t, d, 3)
	torn := a[2]
	unvouch(t, d, torn)
	must(t, d.FlipBit(torn.seg, (torn.records[0]+60)*8)) // its second record verifies
	l := mustOpen(t, testOptions(d))
	b := make([]byte, recordHeaderBytes)
	_, err := l.tail().file.ReadAt(b, torn.records[1])
	must(t, err)
	if h, ok := decodeRecordHeader(b); ok {
		t.Fatalf("a record of the torn append %d is left where the next one goes", h.number)
	}
	wantEntries(t, l.Group(2), run(1, 1, 4, 100))
}

// A recycled file is full of records that were valid once, at the offsets
// where the next ones are expected.
func TestStaleRecordsNeverReplay(t *testing.T) {
	d := newDisk(t, 1)
	l := mustOpen(t, testOptions(d))
	next := uint64(1)
	add := func() {
		must(t, l.Append([]Write{{Group: 1, Entries: run(next, 1, 1, 400)}}))
		next++
	}
	for l.tail().seq < 8 {
		add()
		must(t, l.Compact(1, max(next, 4)-4))
	}
	stale := 0
	for range 24 {
		b := make([]byte, l.tail().sizeBytes-l.tail().end)
		_, err := l.tail().file.ReadAt(b, l.tail().end)
		must(t, err)
		if strings.Contains(string(b), "xxxx") {
			stale++
		}
		d.Crash()
		l = mustOpen(t, testOptions(d))
		if got := l.Group(1).LastIndex(); got != next-1 {
			t.Fatalf("last index %d, want %d", got, next-1)
		}
		add()
		must(t, l.Compact(1, next-4))
	}
	if stale < 6 {
		t.Fatalf("only %d recoveries had stale bytes behind the log's end", stale)
	}
}

// A record that verifies under another epoch, or whose append has another
// number, is as good as none, wherever it lies.
func TestForeignRecordsNeverReplay(t *testing.T) {
	tests := map[string]struct {
		seqOff, numberOff uint64
		replayed          bool
	}{
		"the next append":       {replayed: true},
		"from the file's past":  {seqOff: ^uint64(0)},
		"an older append":       {numberOff: ^uint64(0)},
		"older, and other file": {seqOff: 1, numberOff: ^uint64(0)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t, 1)
			writeLog(t, d, 3)
			l := mustOpen(t, testOptions(d))
			s := l.tail()
			c := change{kind: recordEntries, group: 1, entries: run(4, 1, 1, 10)}
			epoch := epochOf(l.salt, s.seq+tt.seqOff)
			overwrite(t, d, s.name, s.end, appendRecord(nil, s.end, epochCRC(epoch), l.next+tt.numberOff, true, &c))
			l = mustOpen(t, testOptions(d))
			if got := l.Group(1).LastIndex() == 4; got != tt.replayed {
				t.Fatalf("replayed: %v, want %v", got, tt.replayed)
			}
		})
	}
}

// Testdata holds a log of format 1, closed; every later version must open it.
// Run with -update to write the current format's.
func TestGolden(t *testing.T) {
	dir := filepath.Join("testdata", fmt.Sprintf("v%d", formatVersion))
	if *update {
		writeGolden(t, dir)
	}
	copied := t.TempDir()
	must(t, os.CopyFS(copied, os.DirFS(dir)))
	o := testOptions(disk.OS())
	o.Dir = copied
	l := mustOpen(t, o)
	one, two := mustContent(t, l.Group(1)), mustContent(t, l.Group(2))
	if diff := sameEntries(one.entries, append(run(5, 2, 4, 200), run(9, 3, 12, 200)...)); diff != "" {
		t.Error("group 1:", diff)
	}
	if one.compacted != (Position{4, 1}) || one.hard != (hardState{3, 2, 20}) {
		t.Errorf("group 1: %+v, %+v", one.compacted, one.hard)
	}
	if diff := sameEntries(two.entries, run(11, 4, 1, 0)); diff != "" || two.compacted != (Position{10, 4}) || two.hard != (hardState{}) {
		t.Errorf("group 2: %+v, %+v, %s", two.compacted, two.hard, diff)
	}
	must(t, l.Close())
}

func writeGolden(t *testing.T, dir string) {
	must(t, os.RemoveAll(dir))
	must(t, os.MkdirAll(dir, 0o700))
	o := testOptions(disk.OS())
	o.Dir = dir
	l := mustOpen(t, o)
	must(t, l.Append([]Write{{Group: 1, HardState: hard(1, 0, 0), Entries: run(1, 1, 6, 200)}, {Group: 2, Entries: run(1, 1, 1, 9)}}))
	must(t, l.Append([]Write{{Group: 1, HardState: hard(2, 1, 4), Entries: run(5, 2, 4, 200)}}))
	must(t, l.Append([]Write{{Group: 2, Reset: &Position{10, 4}, Entries: run(11, 4, 1, 0)}, {Group: 1, HardState: hard(3, 2, 4)}}))
	must(t, l.Compact(1, 4))
	must(t, l.Append([]Write{{Group: 1, Entries: run(9, 3, 12, 200)}}))
	must(t, l.Append([]Write{{Group: 1, HardState: hard(3, 2, 20)}}))
	must(t, l.Close())
}

func TestUnknownFormat(t *testing.T) {
	d := newDisk(t, 1)
	l := mustOpen(t, testOptions(d))
	b := segmentHeader{seq: 1, epoch: epochOf(l.salt, 1), firstAppend: 1}.encode()
	b[8] = formatVersion + 1
	resum(b)
	overwrite(t, d, l.tail().name, 0, b)
	if _, err := Open(testOptions(d)); err == nil || !strings.Contains(err.Error(), "format 2 is not known") {
		t.Fatalf("error %v", err)
	}
}

func overwrite(t *testing.T, d *memdisk.FS, name string, offset int64, b []byte) {
	t.Helper()
	f, err := d.Open(name)
	must(t, err)
	_, err = f.WriteAt(b, offset)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func truncate(t *testing.T, d *memdisk.FS, name string, sizeBytes int64) {
	t.Helper()
	f, err := d.Open(name)
	must(t, err)
	must(t, f.Truncate(sizeBytes))
	must(t, f.Sync())
	must(t, f.Close())
}

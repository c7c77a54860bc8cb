package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"testing"

	"metastore.io/metastore/server/disk/memdisk"
)

// damageLog is a log of some segments. When it was closed its end is sealed, and
// else it is as a crash leaves it.
func damageLog(f *testing.F, closed bool) (d *memdisk.FS, whole, torn content) {
	f.Helper()
	d = newDisk(f, 1)
	l := mustOpen(f, testOptions(d))
	g := l.Group(7)
	must(f, l.Append([]Write{{Group: 7, HardState: hard(1, 2, 0), Entries: run(1, 1, 6, 300)}}))
	must(f, l.Append([]Write{{Group: 7, HardState: hard(1, 2, 5), Durable: true}, {Group: 9, Entries: run(1, 1, 2, 10)}}))
	must(f, l.Append([]Write{{Group: 7, Entries: run(7, 2, 8, 200)}}))
	must(f, l.Append([]Write{{Group: 7, Entries: run(12, 3, 2, 100)}}))
	torn = mustContent(f, g)
	must(f, l.Append([]Write{{Group: 7, Entries: run(14, 3, 3, 50)}}))
	whole = mustContent(f, g)
	if closed {
		must(f, l.Close())
		torn = whole // the last append is a mark
	}
	return d, whole, torn
}

// FuzzDamage changes up to four bytes of a log. It opens with what was appended,
// or without the last append where that was not sealed, or is found corrupt.
func FuzzDamage(f *testing.F) {
	f.Add(uint16(0), uint32(0), uint32(1), true)
	f.Add(uint16(0), uint32(segmentHeaderBytes), uint32(1<<31), false)
	f.Add(uint16(1), uint32(segmentHeaderBytes+4), uint32(0xff), true)
	f.Add(uint16(1), uint32(100), uint32(0xffffffff), false)
	open, wholeOpen, tornOpen := damageLog(f, false)
	sealed, wholeSealed, tornSealed := damageLog(f, true)
	f.Fuzz(func(t *testing.T, file uint16, offset, xor uint32, closed bool) {
		d, whole, torn := open.Clone(1), wholeOpen, tornOpen
		if closed {
			d, whole, torn = sealed.Clone(1), wholeSealed, tornSealed
		}
		damage(t, d, int(file), offset, xor)
		l, err := Open(testOptions(d))
		if err != nil {
			wantCorrupt(t, err)
			return
		}
		got, err := contentOf(l.Group(7))
		if err != nil {
			wantCorrupt(t, err)
			return
		}
		if a, b := sameContent(got, whole), sameContent(got, torn); a != "" && b != "" {
			t.Fatalf("file %d, offset %d, bits %x: neither the log (%s) nor all but its last append (%s)", file, offset, xor, a, b)
		}
	})
}

func damage(t *testing.T, d *memdisk.FS, file int, offset, xor uint32) {
	names, err := d.List(testDir)
	must(t, err)
	f, err := d.Open(filepath.Join(testDir, names[file%len(names)]))
	must(t, err)
	size, err := f.SizeBytes()
	must(t, err)
	var b [4]byte
	at := int64(offset) % size
	n, err := f.ReadAt(b[:], at)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= byte(xor >> (8 * i))
	}
	_, err = f.WriteAt(b[:n], at)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

func sameContent(got, want content) string {
	if got.hard != want.hard || got.compacted != want.compacted {
		return fmt.Sprintf("%+v after %+v, want %+v after %+v", got.hard, got.compacted, want.hard, want.compacted)
	}
	return sameEntries(got.entries, want.entries)
}

// replaySegment is a segment whose records are those of script, each with the
// checksum that it needs: a byte for the kind, one for the flags, one for the
// group, one for the payload's length, and the payload. small: no checkpoint
// speaks of so many entries that there would be no memory for many runs.
func replaySegment(script []byte) (b []byte, small bool) {
	h := segmentHeader{seq: 1, epoch: epochOf(5, 1), firstAppend: 1}
	b, small = h.encode(), true
	number := uint64(1)
	for len(script) >= 4 {
		kind, flags, group, n := script[0], script[1], script[2], int(script[3])
		payload := script[4:min(4+n, len(script))]
		script = script[4+len(payload):]
		b = appendRaw(b, recordType(kind), flags, GroupID(group), number, h.epoch, payload)
		c, err := decodePayload(recordHeader{kind: recordType(kind), flags: flags}, payload, 0)
		small = small && (err != nil || c.last < c.at.Index+1<<16)
		if flags&flagLast != 0 {
			number++
		}
	}
	return append(b, make([]byte, 256)...), small
}

// appendRaw appends a record with any payload.
func appendRaw(dst []byte, kind recordType, flags uint8, group GroupID, number, epoch uint64, payload []byte) []byte {
	start := len(dst)
	c := change{kind: recordMark, group: group}
	dst = appendRecord(dst, 0, 0, number, false, &c)
	dst[start+8], dst[start+9] = byte(kind), flags
	dst = append(dst[:start+recordHeaderBytes], payload...)
	putLength(dst[start:], len(payload))
	resumRecord(dst[start:], epoch)
	for len(dst)%recordAlignBytes != 0 {
		dst = append(dst, 0)
	}
	return dst
}

// scriptOf is the script that gives the changes.
func scriptOf(changes ...change) (script []byte) {
	for _, c := range changes {
		r := appendRecord(nil, 0, 0, 1, true, &c)
		h, _ := decodeRecordHeader(r)
		script = append(script, byte(h.kind), h.flags, byte(h.group), byte(h.length))
		script = append(script, r[recordHeaderBytes:][:h.length]...)
	}
	return script
}

// FuzzReplay opens logs whose records verify and say anything. What is taken can
// be read whole, and is there again at the next start.
func FuzzReplay(f *testing.F) {
	hs := &hardState{5, 6, 2}
	f.Add(scriptOf(
		change{kind: recordEntries, group: 1, hard: hs, entries: run(1, 4, 3, 2)},
		change{kind: recordEntries, group: 1, entries: run(3, 5, 2, 2)},
		change{kind: recordCompact, group: 1, at: Position{2, 4}},
		change{kind: recordHardState, group: 2, hard: hs},
		change{kind: recordMark}))
	f.Add(scriptOf(
		change{kind: recordReset, group: 1, at: Position{9, 8}},
		change{kind: recordEntries, group: 1, entries: run(10, 8, 1, 0)},
		change{kind: recordCheckpoint, group: 1, at: Position{9, 8}, last: 10}))
	f.Add(scriptOf(change{kind: recordCheckpoint, group: 3, at: Position{9, 8}, last: 12}))
	f.Add(scriptOf(
		change{kind: recordEntries, group: 1, entries: run(1, 4, 3, 2)},
		change{kind: recordReset, group: 1, hard: hs, at: Position{1, 9}},
		change{kind: recordEntries, group: 1, entries: run(2, 9, 3, 2)}))
	f.Fuzz(func(t *testing.T, script []byte) {
		segment, small := replaySegment(script)
		if !small {
			return
		}
		d := newDisk(t, 1)
		must(t, d.MkdirAll(testDir))
		name := filepath.Join(testDir, segmentName(1))
		file, err := d.Create(name)
		must(t, err)
		_, err = file.WriteAt(segment, 0)
		must(t, errors.Join(err, file.Sync(), file.Close(), d.SyncDir(testDir)))
		l, err := Open(testOptions(d))
		if err != nil {
			wantCorrupt(t, err)
			return
		}
		before := map[GroupID]content{}
		for _, g := range l.sortedGroups() {
			before[g.id] = mustContent(t, g)
		}
		must(t, l.Close())
		l = mustOpen(t, testOptions(d))
		for id, want := range before {
			if diff := sameContent(mustContent(t, l.Group(id)), want); diff != "" {
				t.Fatalf("group %d opened again: %s", id, diff)
			}
		}
		must(t, l.Close())
	})
}

// FuzzSegmentHeader: what is taken is what the encoder writes.
func FuzzSegmentHeader(f *testing.F) {
	f.Add(segmentHeader{seq: 1, epoch: epochOf(5, 1), firstAppend: 9}.encode(), false)
	f.Add(make([]byte, segmentHeaderBytes), true)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum && len(b) >= segmentHeaderBytes {
			resum(b)
		}
		h, err := decodeSegmentHeader(b)
		if err != nil {
			return
		}
		again, err := decodeSegmentHeader(h.encode())
		if err != nil || again != h {
			t.Fatalf("%x gives %+v, and that %+v: %v", b, h, again, err)
		}
		// Zeros that a later version may fill are not looked at.
		for _, part := range [][2]int{{0, 12}, {16, 40}} {
			if !bytes.Equal(h.encode()[part[0]:part[1]], b[part[0]:part[1]]) {
				t.Fatalf("%x encodes to %x", b, h.encode())
			}
		}
	})
}

// putLength writes the length of a record's payload.
func putLength(record []byte, n int) { binary.LittleEndian.PutUint32(record[4:], uint32(n)) }

// resumRecord makes a changed record, the last of its buffer, verify.
func resumRecord(record []byte, epoch uint64) {
	binary.LittleEndian.PutUint32(record, crc32.Update(epochCRC(epoch), castagnoli, record[4:]))
}

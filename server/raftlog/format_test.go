package raftlog

import (
	"bytes"
	"encoding/binary"
	"flag"
	"hash/crc32"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var update = flag.Bool("update", false, "write testdata anew")

// resum makes a changed segment header verify.
func resum(b []byte) {
	binary.LittleEndian.PutUint32(b[crcField:], crc32.Checksum(b[:crcField], castagnoli))
}

func testChanges() []change {
	h := &hardState{5, 1 << 60, 77}
	plain, empty, conf := entry(9, 4, "data"), entry(10, 5, ""), entry(11, 5, "c")
	empty.Data = nil
	conf.Type = raftpb.EntryConfChangeV2.Enum()
	return []change{
		{kind: recordEntries, group: 1, hard: h, entries: []*raftpb.Entry{plain, empty, conf}},
		{kind: recordEntries, group: 1 << 31, entries: []*raftpb.Entry{entry(1, 0, "")}},
		{kind: recordHardState, group: 2, hard: h},
		{kind: recordReset, group: 3, at: Position{9, 8}},
		{kind: recordCompact, group: 3, hard: h, at: Position{9, 8}},
		{kind: recordCheckpoint, group: 3, at: Position{9, 8}, last: 12},
		{kind: recordMark},
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	const base = 4096
	for i, c := range testChanges() {
		b := appendRecord([]byte("12345678"), base, epochCRC(7), uint64(i), i%2 == 0, &c)[8:]
		h, ok := decodeRecordHeader(b)
		if !ok || h.number != uint64(i) || h.sizeBytes() != int64(len(b)) {
			t.Fatalf("record %d: header %+v of %d bytes", i, h, len(b))
		}
		got, err := decodePayload(h, b[recordHeaderBytes:][:h.length], base+8+recordHeaderBytes)
		must(t, err)
		if got.kind != c.kind || got.group != c.group || got.at != c.at || got.last != c.last || (got.hard == nil) != (c.hard == nil) || got.hard != nil && *got.hard != *c.hard {
			t.Fatalf("record %d: %+v, want %+v", i, got, c)
		}
		if diff := sameEntries(got.entries, c.entries); diff != "" {
			t.Fatalf("record %d: %s", i, diff)
		}
		for j := range c.places {
			if got.places[j] != c.places[j] {
				t.Fatalf("record %d: entry %d at %+v, want %+v", i, j, got.places[j], c.places[j])
			}
		}
	}
}

func TestEntrySize(t *testing.T) {
	for _, c := range testChanges() {
		for _, e := range c.entries {
			if got, want := entrySize(e), uint64(proto.Size(e)); got != want {
				t.Errorf("%v: %d, want %d", e, got, want)
			}
		}
	}
	big := entry(1<<63, 1<<40, string(make([]byte, 1000)))
	if got, want := entrySize(big), uint64(proto.Size(big)); got != want {
		t.Errorf("%d, want %d", got, want)
	}
}

// Whatever the decoder takes, the encoder writes in the same way.
func FuzzDecodeRecord(f *testing.F) {
	for i, c := range testChanges() {
		f.Add(appendRecord(nil, 0, 0, uint64(i), true, &c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < recordHeaderBytes {
			return
		}
		h, ok := decodeRecordHeader(b)
		if !ok || int64(h.length) > int64(len(b)-recordHeaderBytes) {
			return
		}
		payload := b[recordHeaderBytes:][:h.length]
		c, err := decodePayload(h, payload, recordHeaderBytes)
		if err != nil {
			return
		}
		again := appendRecord(nil, 0, 0, h.number, h.flags&flagLast != 0, &c)
		if !bytes.Equal(again[4:recordHeaderBytes+len(payload)], b[4:recordHeaderBytes+len(payload)]) {
			t.Fatalf("%x was decoded to %+v and encoded to %x", b, c, again)
		}
	})
}

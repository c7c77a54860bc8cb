package raftlog

import (
	"encoding/binary"
	"hash/crc32"

	"go.etcd.io/raft/v3/raftpb"
)

// decodePayload reads what appendPayload wrote; base is the payload's offset
// in its segment. Entries share the payload's bytes. It gives errMalformed for
// everything that appendPayload does not write.
func decodePayload(h recordHeader, payload []byte, base int64) (change, error) {
	d := decoder{rest: payload, at: base}
	c := change{kind: h.kind, group: h.group}
	if h.flags&flagHardState != 0 {
		c.hard = &hardState{d.uint64(), d.uint64(), d.uint64()}
	}
	switch h.kind {
	case recordEntries:
		d.run(&c)
	case recordReset, recordCompact:
		c.at = d.position()
	case recordCheckpoint:
		c.at = d.position()
		c.last = d.uint64()
		d.bad = d.bad || c.last < c.at.Index || c.last-c.at.Index > maxEntries
	case recordHardState:
		d.bad = d.bad || c.hard == nil
	case recordMark:
		d.bad = d.bad || c.hard != nil || c.group != 0
	default:
		d.bad = true
	}
	if d.bad || len(d.rest) != 0 {
		return change{}, errMalformed
	}
	return c, nil
}

// decoder consumes a payload; once bad it gives zeros.
type decoder struct {
	rest []byte
	at   int64
	bad  bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.rest) {
		d.bad = true
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	d.at += int64(n)
	return b
}

func (d *decoder) uint64() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (d *decoder) uint32() uint32 {
	b := d.take(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

func (d *decoder) position() Position { return Position{Index: d.uint64(), Term: d.uint64()} }

func (d *decoder) run(c *change) {
	first, count, zero := d.uint64(), d.uint32(), d.uint32()
	if d.bad || zero != 0 || count == 0 || int64(count) > int64(len(d.rest)/entryHeaderBytes) || first == 0 || first+uint64(count) < first {
		d.bad = true
		return
	}
	c.entries = make([]*raftpb.Entry, count)
	c.places = make([]place, count)
	for i := range c.entries {
		before, offset := d.rest, d.at
		c.entries[i] = d.entry(first + uint64(i))
		if d.bad {
			return
		}
		raw := before[:len(before)-len(d.rest)]
		c.places[i] = place{offset, uint32(len(raw)), crc32.Checksum(raw, castagnoli)}
	}
}

// entryBox keeps an entry and what it points to in one allocation.
type entryBox struct {
	entry       raftpb.Entry
	term, index uint64
	kind        raftpb.EntryType
}

func (d *decoder) entry(index uint64) *raftpb.Entry {
	term, length, meta := d.uint64(), d.uint32(), d.take(4)
	if d.bad || meta[1]&^entryFlagsKnow != 0 || meta[2] != 0 || meta[3] != 0 {
		d.bad = true
		return nil
	}
	data := d.take(int(length))
	hasType, hasData := meta[1]&entryHasType != 0, meta[1]&entryHasData != 0
	if d.bad || length > 0 && !hasData || meta[0] != 0 && !hasType {
		d.bad = true
		return nil
	}
	box := &entryBox{term: term, index: index, kind: raftpb.EntryType(meta[0])}
	box.entry.Term, box.entry.Index = &box.term, &box.index
	if hasType {
		box.entry.Type = &box.kind
	}
	if hasData {
		box.entry.Data = data
	}
	return &box.entry
}

// entrySize is proto.Size of an entry, without its reflection.
func entrySize(e *raftpb.Entry) uint64 {
	n := sizeFloor(e.GetTerm(), e.GetIndex(), len(e.Data))
	if e.Type != nil {
		n += 1 + varintBytes(uint64(e.GetType()))
	}
	if e.Data != nil && len(e.Data) == 0 {
		n += 2
	}
	return n
}

// sizeFloor is the least proto.Size of an entry of which only this is known.
func sizeFloor(term, index uint64, dataBytes int) uint64 {
	n := 2 + varintBytes(term) + varintBytes(index)
	if dataBytes > 0 {
		n += 1 + varintBytes(uint64(dataBytes)) + uint64(dataBytes)
	}
	return n
}

func varintBytes(v uint64) uint64 {
	n := uint64(1)
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

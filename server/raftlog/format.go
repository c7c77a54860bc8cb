package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	magic              = "MSRAFTLG"
	formatVersion      = 1
	segmentHeaderBytes = 64
	recordHeaderBytes  = 24
	recordAlignBytes   = 8
	hardStateBytes     = 24
	positionBytes      = 16
	runHeaderBytes     = 16
	entryHeaderBytes   = 16

	// maxDataBytes bounds one entry's data. maxRunBytes is where a run of
	// entries is split into several records, so that lengths fit 32 bits.
	maxDataBytes = 1 << 30
	maxRunBytes  = 64 << 20
	// maxEntries bounds what a checkpoint may say of the entries of a group:
	// recovery makes room for them, and a log of that many would not fit into
	// memory either.
	maxEntries = 1 << 27
)

// ErrCorrupt says that the log holds bytes that do not verify and are no torn
// tail. The error that wraps it names the file and the offset.
var ErrCorrupt = errors.New("raft log is corrupt")

// errMalformed is a payload whose checksum is right and whose shape is not.
var errMalformed = errors.New("malformed record")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcField is where the header's own checksum lies.
const crcField = segmentHeaderBytes - 4

type segmentHeader struct {
	seq         uint64
	epoch       uint64
	firstAppend uint64
}

func (h segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderBytes)
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint64(b[16:], h.seq)
	binary.LittleEndian.PutUint64(b[24:], h.epoch)
	binary.LittleEndian.PutUint64(b[32:], h.firstAppend)
	binary.LittleEndian.PutUint32(b[crcField:], crc32.Checksum(b[:crcField], castagnoli))
	return b
}

func decodeSegmentHeader(b []byte) (segmentHeader, error) {
	le := binary.LittleEndian
	if len(b) < segmentHeaderBytes {
		return segmentHeader{}, fmt.Errorf("%w: %d bytes are no segment header", ErrCorrupt, len(b))
	}
	if string(b[:8]) != magic || le.Uint32(b[crcField:]) != crc32.Checksum(b[:crcField], castagnoli) {
		return segmentHeader{}, fmt.Errorf("%w: the segment header does not verify", ErrCorrupt)
	}
	if v := le.Uint32(b[8:]); v != formatVersion {
		return segmentHeader{}, fmt.Errorf("raft log format %d is not known to this version, which reads format %d", v, formatVersion)
	}
	return segmentHeader{seq: le.Uint64(b[16:]), epoch: le.Uint64(b[24:]), firstAppend: le.Uint64(b[32:])}, nil
}

// epochOf is the epoch of a segment; see the package comment.
func epochOf(salt uint32, seq uint64) uint64 { return uint64(salt)<<32 | seq&math.MaxUint32 }

// epochCRC is the state of the checksum after the epoch.
func epochCRC(epoch uint64) uint32 {
	return crc32.Checksum(binary.LittleEndian.AppendUint64(nil, epoch), castagnoli)
}

type recordType uint8

const (
	recordEntries recordType = 1 + iota
	recordHardState
	recordReset
	recordCompact
	recordCheckpoint
	recordMark
)

const (
	flagLast      = 1 << 0
	flagHardState = 1 << 1
	flagsKnown    = flagLast | flagHardState

	entryHasType   = 1 << 0
	entryHasData   = 1 << 1
	entryFlagsKnow = entryHasType | entryHasData
)

type recordHeader struct {
	crc    uint32
	length uint32 // of the payload
	kind   recordType
	flags  uint8
	group  GroupID
	number uint64
}

// decodeRecordHeader says false to what no writer makes.
func decodeRecordHeader(b []byte) (recordHeader, bool) {
	le := binary.LittleEndian
	h := recordHeader{
		crc: le.Uint32(b), length: le.Uint32(b[4:]), kind: recordType(b[8]), flags: b[9],
		group: GroupID(le.Uint32(b[12:])), number: le.Uint64(b[16:]),
	}
	ok := h.kind >= recordEntries && h.kind <= recordMark && h.flags&^flagsKnown == 0 && b[10] == 0 && b[11] == 0
	return h, ok
}

// sizeBytes is the room that the whole record takes.
func (h recordHeader) sizeBytes() int64 { return alignUp(recordHeaderBytes + int64(h.length)) }

func alignUp(n int64) int64 { return (n + recordAlignBytes - 1) &^ (recordAlignBytes - 1) }

// hardState is a raftpb.HardState by value; the zero value: none was recorded.
type hardState struct{ term, vote, commit uint64 }

func hardStateOf(h *raftpb.HardState) hardState {
	return hardState{h.GetTerm(), h.GetVote(), h.GetCommit()}
}

// change is what one record says about one group.
type change struct {
	kind  recordType
	group GroupID
	// hard is nil when the record leaves the hard state alone.
	hard *hardState
	// at is the position of a reset, a compaction, or of a checkpoint's last
	// compacted entry; last is the checkpoint's last index.
	at   Position
	last uint64
	// entries have consecutive indexes; places[i] is where entries[i] lies.
	entries []*raftpb.Entry
	places  []place
}

// place is where an entry's header and data lie in a segment, and their CRC32C.
type place struct {
	offset int64
	length uint32
	crc    uint32
}

func (c *change) payloadBytes() int64 {
	n := int64(0)
	if c.hard != nil {
		n += hardStateBytes
	}
	switch c.kind {
	case recordEntries:
		n += runHeaderBytes
		for _, e := range c.entries {
			n += entryHeaderBytes + int64(len(e.Data))
		}
	case recordReset, recordCompact:
		n += positionBytes
	case recordCheckpoint:
		n += positionBytes + 8
	}
	return n
}

// appendRecord encodes c behind dst, whose first byte will lie at offset base
// of the segment, and fills c.places.
func appendRecord(dst []byte, base int64, epochSum uint32, number uint64, last bool, c *change) []byte {
	le := binary.LittleEndian
	start := len(dst)
	flags := uint8(0)
	if last {
		flags |= flagLast
	}
	if c.hard != nil {
		flags |= flagHardState
	}
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, uint32(c.payloadBytes()))
	dst = append(dst, byte(c.kind), flags, 0, 0)
	dst = le.AppendUint32(dst, uint32(c.group))
	dst = le.AppendUint64(dst, number)
	dst = appendPayload(dst, base, c)
	le.PutUint32(dst[start:], crc32.Update(epochSum, castagnoli, dst[start+4:]))
	for len(dst)%recordAlignBytes != 0 {
		dst = append(dst, 0)
	}
	return dst
}

func appendPayload(dst []byte, base int64, c *change) []byte {
	le := binary.LittleEndian
	if c.hard != nil {
		dst = le.AppendUint64(dst, c.hard.term)
		dst = le.AppendUint64(dst, c.hard.vote)
		dst = le.AppendUint64(dst, c.hard.commit)
	}
	switch c.kind {
	case recordEntries:
		dst = appendRun(dst, base, c)
	case recordReset, recordCompact, recordCheckpoint:
		dst = le.AppendUint64(dst, c.at.Index)
		dst = le.AppendUint64(dst, c.at.Term)
		if c.kind == recordCheckpoint {
			dst = le.AppendUint64(dst, c.last)
		}
	}
	return dst
}

func appendRun(dst []byte, base int64, c *change) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, c.entries[0].GetIndex())
	dst = le.AppendUint32(dst, uint32(len(c.entries)))
	dst = le.AppendUint32(dst, 0)
	c.places = make([]place, len(c.entries))
	for i, e := range c.entries {
		from := len(dst)
		flags := byte(0)
		if e.Type != nil {
			flags |= entryHasType
		}
		if e.Data != nil {
			flags |= entryHasData
		}
		dst = le.AppendUint64(dst, e.GetTerm())
		dst = le.AppendUint32(dst, uint32(len(e.Data)))
		dst = append(dst, byte(e.GetType()), flags, 0, 0)
		dst = append(dst, e.Data...)
		c.places[i] = place{base + int64(from), uint32(len(dst) - from), crc32.Checksum(dst[from:], castagnoli)}
	}
	return dst
}

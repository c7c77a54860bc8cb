package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"metastore.io/metastore/server/engine"
)

// A dump file holds all rows of one moment. Integers are little endian.
//
//	file    = header block* trailer
//
//	header  = +---------------+------------+------------+
//	          | magic (8)     | version (4)| crc (4)    |
//	          +---------------+------------+------------+
//
//	block   = +---------+---------+-----------+---------+
//	          | kind (1)| space(1)| zero (2)  | size (4)|
//	          +---------+---------+-----------+---------+
//	          | rows (4)          | crc (4)             |
//	          +-------------------+---------------------+
//	          | payload (size)                          |
//	          +-----------------------------------------+
//
//	trailer = a block of its own kind whose payload is
//	          +---------------+------------+
//	          | all rows (8)  | sum (4)    |
//	          +---------------+------------+
//
// A payload is rows times (key length uvarint, value length uvarint, key,
// value). Keys ascend strictly within a space, and blocks ascend by space. A
// crc is the CRC32C of what precedes it in its header and, in a block, of the
// payload; sum is the CRC32C of the crcs before it, so that a missing or a
// foreign block shows. Nothing follows the trailer.
const (
	dumpMagic   = "MSMEMDMP"
	dumpVersion = 1

	headerBytes      = 16
	blockHeaderBytes = 16
	trailerBytes     = 12

	kindRows    = 1
	kindTrailer = 2

	// targetBlockBytes is where a block ends; a longer row is a block alone.
	targetBlockBytes = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendHeader appends a file header.
func appendHeader(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, dumpMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, dumpVersion)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// blockCRC is the checksum over a block's header up to the crc, and payload.
func blockCRC(header, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(header[:12], castagnoli), castagnoli, payload)
}

// addCRC adds a block's crc to the sum.
func addCRC(sum, crc uint32) uint32 {
	return crc32.Update(sum, castagnoli, binary.LittleEndian.AppendUint32(nil, crc))
}

// decoder reads a dump front to back.
type decoder struct {
	r io.Reader
	// offset is where in the file the next unread byte lies; remaining is how
	// many follow. No length in the file is trusted beyond remaining.
	offset, remaining int64
	sum               uint32
	rows              uint64
	space             engine.Space
	// last is the last key of space, nil before the first.
	last    []byte
	payload []byte
}

// dumpRow is a row of a dump and where it lies: at in block, a payload, whose
// memory is the caller's to keep. Rows are in a heap's form there.
type dumpRow struct {
	space      engine.Space
	block      []byte
	at         int
	key, value []byte
}

// decodeDump checks a dump of size bytes and calls fn for each row in order. An
// error that wraps engine.ErrCorrupt names the offset.
func decodeDump(r io.Reader, size int64, fn func(dumpRow)) error {
	d := &decoder{r: r, remaining: size}
	if err := d.header(); err != nil {
		return err
	}
	for {
		if done, err := d.block(fn); err != nil || done {
			return err
		}
	}
}

func corrupt(offset int64, format string, args ...any) error {
	return fmt.Errorf("offset %d: %s: %w", offset, fmt.Sprintf(format, args...), engine.ErrCorrupt)
}

// read fills buf from the file.
func (d *decoder) read(buf []byte, what string) error {
	if int64(len(buf)) > d.remaining {
		return corrupt(d.offset, "the file ends within a %s", what)
	}
	if _, err := io.ReadFull(d.r, buf); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return corrupt(d.offset, "the file ends within a %s", what)
		}
		return fmt.Errorf("read a %s at offset %d: %w", what, d.offset, err)
	}
	d.offset += int64(len(buf))
	d.remaining -= int64(len(buf))
	return nil
}

func (d *decoder) header() error {
	var h [headerBytes]byte
	if err := d.read(h[:], "file header"); err != nil {
		return err
	}
	if string(h[:8]) != dumpMagic {
		return corrupt(0, "not a dump of the memory engine")
	}
	if crc32.Checksum(h[:12], castagnoli) != binary.LittleEndian.Uint32(h[12:]) {
		return corrupt(0, "the file header does not match its checksum")
	}
	if v := binary.LittleEndian.Uint32(h[8:]); v != dumpVersion {
		return fmt.Errorf("dump has format version %d, this program reads %d", v, dumpVersion)
	}
	return nil
}

func (d *decoder) block(fn func(dumpRow)) (done bool, err error) {
	start := d.offset
	var h [blockHeaderBytes]byte
	if err := d.read(h[:], "block header"); err != nil {
		return false, err
	}
	size := binary.LittleEndian.Uint32(h[4:])
	if int64(size) > d.remaining {
		return false, corrupt(start, "a block of %d bytes, only %d follow", size, d.remaining)
	}
	d.payload = make([]byte, size)
	if err := d.read(d.payload, "block"); err != nil {
		return false, err
	}
	crc := binary.LittleEndian.Uint32(h[12:])
	if blockCRC(h[:], d.payload) != crc {
		return false, corrupt(start, "a block does not match its checksum")
	}
	rows := binary.LittleEndian.Uint32(h[8:])
	switch h[0] {
	case kindRows:
		d.sum = addCRC(d.sum, crc)
		return false, d.rowsBlock(start, engine.Space(h[1]), rows, fn)
	case kindTrailer:
		return true, d.trailer(start)
	}
	return false, corrupt(start, "unknown block kind %d", h[0])
}

func (d *decoder) rowsBlock(start int64, s engine.Space, rows uint32, fn func(dumpRow)) error {
	if s >= engine.SpaceCount || s < d.space {
		return corrupt(start, "space %d after space %d", s, d.space)
	}
	if s != d.space {
		d.space, d.last = s, nil
	}
	rest := d.payload
	for range rows {
		key, value, n := cutRow(rest)
		at := start + blockHeaderBytes + int64(len(d.payload)-len(rest))
		if n == 0 || n != rowLen(len(key), len(value)) {
			return corrupt(at, "a row does not fit its block")
		}
		if d.last != nil && string(key) <= string(d.last) {
			return corrupt(at, "keys do not ascend")
		}
		fn(dumpRow{s, d.payload, len(d.payload) - len(rest), key, value})
		d.last = append(d.last[:0], key...)
		if d.last == nil {
			d.last = []byte{}
		}
		rest = rest[n:]
	}
	if len(rest) != 0 {
		return corrupt(start, "%d bytes follow the last row of a block", len(rest))
	}
	d.rows += uint64(rows)
	return nil
}

// appendRow appends a row of a block's payload.
func appendRow(dst, key, value []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(append(dst, key...), value...)
}

// cutRow takes the row at the start of b; n is its length, 0 when there is none.
func cutRow(b []byte) (key, value []byte, n int) {
	keyLen, i := binary.Uvarint(b)
	if i <= 0 {
		return nil, nil, 0
	}
	valLen, j := binary.Uvarint(b[i:])
	if j <= 0 {
		return nil, nil, 0
	}
	rest := uint64(len(b) - i - j)
	if keyLen > rest || valLen > rest-keyLen {
		return nil, nil, 0
	}
	k := i + j
	v := k + int(keyLen)
	n = v + int(valLen)
	return b[k:v:v], b[v:n:n], n
}

func (d *decoder) trailer(start int64) error {
	if len(d.payload) != trailerBytes {
		return corrupt(start, "a trailer of %d bytes, want %d", len(d.payload), trailerBytes)
	}
	if n := binary.LittleEndian.Uint64(d.payload); n != d.rows {
		return corrupt(start, "the trailer counts %d rows, the file holds %d", n, d.rows)
	}
	if binary.LittleEndian.Uint32(d.payload[8:]) != d.sum {
		return corrupt(start, "the blocks do not match the checksum of the trailer")
	}
	if d.remaining != 0 {
		return corrupt(d.offset, "%d bytes follow the trailer", d.remaining)
	}
	return nil
}

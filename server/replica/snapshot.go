package replica

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"metastore.io/metastore/server/engine"
)

// A snapshot on its way to another member is a stream of blocks:
//
//	header   "MSSNAP" | version 1 B | group 4 B BE | index 8 B BE | term 8 B BE | CRC32C 4 B BE
//	block    length 4 B BE (> 0) | CRC32C of the payload 4 B BE | payload
//	end      length 0 | rows 8 B BE | CRC32C of all block CRCs 4 B BE
//
// A payload is a run of rows:
//
//	space 1 B | key length uvarint | key | value length uvarint | value
//
// Neither side holds more than a block in memory, whatever the state's size.
const (
	snapshotMagic   = "MSSNAP"
	snapshotVersion = 1
	snapshotHeader  = len(snapshotMagic) + 1 + 4 + 8 + 8
	// blockBytes closes a block; one row may make it longer.
	blockBytes = 256 << 10
	// maxBlockBytes refuses a length that no sender writes.
	maxBlockBytes = 512 << 20
)

// ErrSnapshotDamaged means that a received snapshot does not verify. Nothing of
// it is used.
var ErrSnapshotDamaged = errors.New("replica: snapshot does not verify")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteSnapshot streams every row of a group from a frozen view.
func WriteSnapshot(dst io.Writer, g engine.GroupID, index, term uint64, view engine.Reader) error {
	w := &snapshotWriter{w: bufio.NewWriterSize(dst, blockBytes)}
	w.header(g, index, term)
	from := g.Append(nil)
	for s := engine.Space(0); s < engine.SpaceCount; s++ {
		err := view.Scan(s, from, engine.PrefixEnd(from), func(k, v []byte) (bool, error) {
			w.row(s, k, v)
			return w.err == nil, w.err
		})
		if err != nil {
			return fmt.Errorf("stream snapshot: %w", err)
		}
	}
	return w.end()
}

type snapshotWriter struct {
	w     *bufio.Writer
	block []byte
	rows  uint64
	sums  uint32
	err   error
}

func (w *snapshotWriter) write(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}

func (w *snapshotWriter) header(g engine.GroupID, index, term uint64) {
	b := append([]byte(snapshotMagic), snapshotVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(g))
	b = binary.BigEndian.AppendUint64(b, index)
	b = binary.BigEndian.AppendUint64(b, term)
	w.write(binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)))
}

func (w *snapshotWriter) row(s engine.Space, key, value []byte) {
	w.block = append(w.block, byte(s))
	w.block = append(binary.AppendUvarint(w.block, uint64(len(key))), key...)
	w.block = append(binary.AppendUvarint(w.block, uint64(len(value))), value...)
	w.rows++
	if len(w.block) >= blockBytes {
		w.flushBlock()
	}
}

func (w *snapshotWriter) flushBlock() {
	if len(w.block) == 0 {
		return
	}
	sum := crc32.Checksum(w.block, castagnoli)
	w.sums = crc32.Update(w.sums, castagnoli, binary.BigEndian.AppendUint32(nil, sum))
	w.write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(len(w.block))), sum))
	w.write(w.block)
	w.block = w.block[:0]
}

func (w *snapshotWriter) end() error {
	w.flushBlock()
	b := binary.BigEndian.AppendUint32(nil, 0)
	b = binary.BigEndian.AppendUint64(b, w.rows)
	w.write(binary.BigEndian.AppendUint32(b, w.sums))
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if w.err != nil {
		return fmt.Errorf("stream snapshot: %w", w.err)
	}
	return nil
}

// ReadSnapshot reads a stream into an empty engine, verifies it to its end and
// makes it durable there. It returns the applied index and term that it holds.
func ReadSnapshot(src io.Reader, g engine.GroupID, into engine.Engine) (index, term uint64, err error) {
	r := bufio.NewReaderSize(src, blockBytes)
	index, term, err = readHeader(r, g)
	if err != nil {
		return 0, 0, err
	}
	batch := engine.NewBatch()
	var rows uint64
	var sums uint32
	for {
		block, sum, err := readBlock(r)
		if err != nil {
			return 0, 0, err
		}
		if block == nil {
			break
		}
		sums = crc32.Update(sums, castagnoli, binary.BigEndian.AppendUint32(nil, sum))
		batch.Reset()
		n, err := readRows(block, g, batch)
		if err != nil {
			return 0, 0, err
		}
		rows += n
		if err := into.Apply(batch); err != nil {
			return 0, 0, fmt.Errorf("store snapshot: %w", err)
		}
	}
	var end [12]byte
	if _, err := io.ReadFull(r, end[:]); err != nil {
		return 0, 0, fmt.Errorf("%w: its end is missing: %w", ErrSnapshotDamaged, err)
	}
	if binary.BigEndian.Uint64(end[:]) != rows || binary.BigEndian.Uint32(end[8:]) != sums {
		return 0, 0, fmt.Errorf("%w: it ends with %d rows where %d came", ErrSnapshotDamaged, binary.BigEndian.Uint64(end[:]), rows)
	}
	if err := into.Flush(); err != nil {
		return 0, 0, fmt.Errorf("store snapshot: %w", err)
	}
	return index, term, nil
}

func readHeader(r io.Reader, g engine.GroupID) (index, term uint64, err error) {
	var h [snapshotHeader + 4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, 0, fmt.Errorf("%w: no header: %w", ErrSnapshotDamaged, err)
	}
	b := h[:snapshotHeader]
	n := len(snapshotMagic)
	switch {
	case string(b[:n]) != snapshotMagic || crc32.Checksum(b, castagnoli) != binary.BigEndian.Uint32(h[snapshotHeader:]):
		return 0, 0, fmt.Errorf("%w: header", ErrSnapshotDamaged)
	case b[n] != snapshotVersion:
		return 0, 0, fmt.Errorf("replica: snapshot format %d, this version reads %d", b[n], snapshotVersion)
	case binary.BigEndian.Uint32(b[n+1:]) != uint32(g):
		return 0, 0, fmt.Errorf("replica: snapshot of group %d, not %d", binary.BigEndian.Uint32(b[n+1:]), g)
	}
	return binary.BigEndian.Uint64(b[n+5:]), binary.BigEndian.Uint64(b[n+13:]), nil
}

// readBlock returns the next verified payload, nil at the end marker.
func readBlock(r io.Reader) (block []byte, sum uint32, err error) {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, 0, fmt.Errorf("%w: cut off: %w", ErrSnapshotDamaged, err)
	}
	n := binary.BigEndian.Uint32(h[:])
	if n == 0 {
		return nil, 0, nil
	}
	if n > maxBlockBytes {
		return nil, 0, fmt.Errorf("%w: block of %d bytes", ErrSnapshotDamaged, n)
	}
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, 0, fmt.Errorf("%w: cut off: %w", ErrSnapshotDamaged, err)
	}
	sum = binary.BigEndian.Uint32(h[:])
	// Read in steps, so that a damaged length costs no more memory than came.
	for len(block) < int(n) {
		step := min(int(n)-len(block), 4*blockBytes)
		at := len(block)
		block = append(block, make([]byte, step)...)
		if _, err := io.ReadFull(r, block[at:]); err != nil {
			return nil, 0, fmt.Errorf("%w: cut off: %w", ErrSnapshotDamaged, err)
		}
	}
	if crc32.Checksum(block, castagnoli) != sum {
		return nil, 0, fmt.Errorf("%w: block checksum", ErrSnapshotDamaged)
	}
	return block, sum, nil
}

func readRows(block []byte, g engine.GroupID, into *engine.Batch) (rows uint64, err error) {
	prefix := string(g.Append(nil))
	for len(block) > 0 {
		s := engine.Space(block[0])
		key, rest, ok := cutBytes(block[1:])
		var value []byte
		if ok {
			value, rest, ok = cutBytes(rest)
		}
		if !ok || s >= engine.SpaceCount || len(key) < len(prefix) || string(key[:len(prefix)]) != prefix {
			return 0, fmt.Errorf("%w: row", ErrSnapshotDamaged)
		}
		into.Put(s, key, value)
		block = rest
		rows++
	}
	return rows, nil
}

func cutBytes(b []byte) (v, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n)], b[w+int(n):], true
}

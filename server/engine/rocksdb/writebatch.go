//go:build rocksdb

package rocksdb

import (
	"encoding/binary"
	"errors"

	"metastore.io/metastore/server/engine"
)

// RocksDB's own form of a write batch (db/write_batch.cc), little endian:
//
//	batch  = sequence (8, set by RocksDB) | operations (4) | operation*
//	put    = tagPut    | column family varint | key | value
//	delete = tagDelete | column family varint | key
//	range  = tagRange  | column family varint | from | to
//
// where keys and values follow their lengths as varints. Building it here costs
// one call into RocksDB a batch instead of one an operation.
const (
	tagDelete = 0x4
	tagPut    = 0x5
	tagRange  = 0xe

	batchHeaderBytes = 12
)

// batchBuilder builds write batches in memory that it keeps.
type batchBuilder struct {
	rep []byte
	// ops counts the operations in rep.
	ops uint32
	// families are the numbers of the spaces' column families.
	families [engine.SpaceCount]uint32
}

// rowReader is what a builder needs to know of the rows that are there.
type rowReader interface {
	// scan reads the newest rows; last is the greatest key of a space, if any.
	scan(s engine.Space, from, to []byte, fn func(key, value []byte) (bool, error)) error
	last(s engine.Space) ([]byte, error)
}

// build encodes a batch that is written next.
func (w *batchBuilder) build(b *engine.Batch, rows rowReader) ([]byte, error) {
	w.rep, w.ops = append(w.rep[:0], make([]byte, batchHeaderBytes)...), 0
	i := 0
	err := b.Each(func(op engine.Op) error {
		defer func() { i++ }()
		if err := checkSpace(op.Space); err != nil {
			return err
		}
		switch op.Kind {
		case engine.OpPut:
			w.add(tagPut, op.Space, op.Key, op.Value)
		case engine.OpDelete:
			w.add(tagDelete, op.Space, op.Key)
		case engine.OpDeleteRange:
			return w.deleteRange(b, i, op, rows)
		}
		return nil
	})
	binary.LittleEndian.PutUint32(w.rep[8:], w.ops)
	return w.rep, err
}

// smallRangeRows is up to how many rows a range is deleted row by row. A range
// tombstone makes every read of its space slower until it is compacted away,
// which many small ranges would make felt.
const smallRangeRows = 1024

var errLargeRange = errors.New("the range holds many rows")

// deleteRange adds operation i of the batch, a range delete.
func (w *batchBuilder) deleteRange(b *engine.Batch, i int, op engine.Op, rows rowReader) error {
	start, ops := len(w.rep), w.ops
	n := 0
	one := func(key, _ []byte) (bool, error) {
		if n++; n > smallRangeRows {
			return false, errLargeRange
		}
		w.add(tagDelete, op.Space, key)
		return true, nil
	}
	err := rows.scan(op.Space, op.Key, op.To, one)
	if err == nil {
		err = putsBefore(b, i, op, one)
	}
	if !errors.Is(err, errLargeRange) {
		return err
	}
	w.rep, w.ops = w.rep[:start], ops
	to := op.To
	if to == nil {
		if to, err = upperBound(b, op.Space, rows); err != nil {
			return err
		}
	}
	w.add(tagRange, op.Space, op.Key, to)
	return nil
}

// putsBefore calls fn for the rows that the batch puts into the range of op
// before operation i.
func putsBefore(b *engine.Batch, i int, op engine.Op, fn func(key, value []byte) (bool, error)) error {
	return b.Each(func(p engine.Op) error {
		i--
		if i < 0 || p.Kind != engine.OpPut || p.Space != op.Space ||
			string(p.Key) < string(op.Key) || (op.To != nil && string(p.Key) >= string(op.To)) {
			return nil
		}
		_, err := fn(p.Key, p.Value)
		return err
	})
}

func (w *batchBuilder) add(tag byte, s engine.Space, parts ...[]byte) {
	w.ops++
	w.rep = append(w.rep, tag)
	w.rep = binary.AppendUvarint(w.rep, uint64(w.families[s]))
	for _, p := range parts {
		w.rep = binary.AppendUvarint(w.rep, uint64(len(p)))
		w.rep = append(w.rep, p...)
	}
}

// shrink lets go of memory that a rare large batch took.
func (w *batchBuilder) shrink() {
	if cap(w.rep) > keptBatchBytes {
		w.rep = nil
	}
}

const keptBatchBytes = 4 << 20

// upperBound is a key above all in a space and above all that the batch puts
// there: RocksDB has no unbounded ranges.
func upperBound(b *engine.Batch, s engine.Space, rows rowReader) ([]byte, error) {
	last, err := rows.last(s)
	if err != nil {
		return nil, err
	}
	_ = b.Each(func(op engine.Op) error { // returns only what the function does
		if op.Kind == engine.OpPut && op.Space == s && string(op.Key) > string(last) {
			last = op.Key
		}
		return nil
	})
	return append(append(make([]byte, 0, len(last)+1), last...), 0), nil
}

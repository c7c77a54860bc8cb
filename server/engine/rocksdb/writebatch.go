//go:build rocksdb

package rocksdb

import (
	"encoding/binary"

	"metastore.io/metastore/server/engine"
)

// RocksDB's own form of a write batch (db/write_batch.cc), little endian:
//
//	batch  = sequence (8, set by RocksDB) | operations (4) | operation*
//	put    = tagPut    | column family varint | key | value
//	delete = tagDelete | column family varint | key
//
// where keys and values follow their lengths as varints. Building it here costs
// one call into RocksDB a batch instead of one an operation.
const (
	tagDelete = 0x4
	tagPut    = 0x5

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
	// scan reads the newest rows.
	scan(s engine.Space, from, to []byte, fn func(key, value []byte) (bool, error)) error
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

// deleteRange adds operation i of the batch, a range delete, row by row. RocksDB's
// range tombstones make every read of their space slower until they are
// compacted away, and the iterators of 7.8 that know of them end without an
// error where the next table file is damaged
// (https://github.com/facebook/rocksdb/pull/11782). So there are none: see At in
// shim.cc.
func (w *batchBuilder) deleteRange(b *engine.Batch, i int, op engine.Op, rows rowReader) error {
	one := func(key, _ []byte) (bool, error) {
		w.add(tagDelete, op.Space, key)
		return true, nil
	}
	if err := rows.scan(op.Space, op.Key, op.To, one); err != nil {
		return err
	}
	return putsBefore(b, i, op, one)
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

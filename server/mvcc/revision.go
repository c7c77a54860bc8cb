package mvcc

import (
	"encoding/binary"
	"fmt"

	"metastore.io/metastore/server/engine"
)

const (
	groupLen     = 4
	revisionLen  = 8 + 1 + 8
	rowKeyLen    = groupLen + revisionLen
	separator    = '_'
	tombstoneEnd = 't'
)

// stamp is one revision of one key as the index holds it.
type stamp struct {
	main int64
	sub  uint32
	// dead marks a tombstone.
	dead bool
}

func (a stamp) before(b stamp) bool { return a.main < b.main || a.main == b.main && a.sub < b.sub }

func (a stamp) same(b stamp) bool { return a.main == b.main && a.sub == b.sub }

// appendRowKey appends the engine key of a revision.
func appendRowKey(dst []byte, g engine.GroupID, at stamp) []byte {
	dst = appendMain(dst, g, at.main)
	dst = append(dst, separator)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at.sub))
	if at.dead {
		dst = append(dst, tombstoneEnd)
	}
	return dst
}

// appendMain appends the prefix of all rows of one main revision, which is
// also where a scan of the revisions from it on begins.
func appendMain(dst []byte, g engine.GroupID, main int64) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(g))
	return binary.BigEndian.AppendUint64(dst, uint64(main))
}

// parseRowKey reads an engine key back.
func parseRowKey(key []byte) (stamp, error) {
	dead := len(key) == rowKeyLen+1 && key[rowKeyLen] == tombstoneEnd
	if len(key) != rowKeyLen && !dead || key[groupLen+8] != separator {
		return stamp{}, fmt.Errorf("mvcc: row key %x: %w", key, engine.ErrCorrupt)
	}
	main := int64(binary.BigEndian.Uint64(key[groupLen:]))
	sub := binary.BigEndian.Uint64(key[groupLen+9:])
	if main < 0 || sub > maxSub {
		return stamp{}, fmt.Errorf("mvcc: row key %x is out of bounds: %w", key, engine.ErrCorrupt)
	}
	return stamp{main: main, sub: uint32(sub), dead: dead}, nil
}

package memory

import (
	"bytes"
	"unsafe"
)

// row is the newest version of one key. Key and value lie in one allocation of
// exactly their length, so a row costs its bytes and rowBytes. They never
// change once written: readers keep references to them without a lock.
type row struct {
	// data points at the key, which the value follows.
	data           *byte
	keyLen, valLen uint32
	// stamp is the sequence number of the batch that wrote the row, and flags.
	stamp uint64
}

const (
	// deletedFlag marks a row whose key was deleted; it is kept because an
	// older version is.
	deletedFlag = 1 << 63
	// olderFlag marks a row that has older versions in space.older.
	olderFlag = 1 << 62
	seqMask   = olderFlag - 1

	rowBytes = int64(unsafe.Sizeof(row{}))
)

// emptyValue stands for values without bytes: a pointer behind a key would
// belong to a foreign allocation.
var emptyValue = []byte{}

// newRow copies key and value.
func newRow(key, value []byte) row {
	data := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
	return row{data: unsafe.SliceData(data), keyLen: uint32(len(key)), valLen: uint32(len(value))}
}

func (r *row) key() []byte { return unsafe.Slice(r.data, r.keyLen) }

func (r *row) value() []byte {
	if r.valLen == 0 {
		return emptyValue
	}
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(r.data), r.keyLen)), r.valLen)
}

func (r *row) seq() uint64   { return r.stamp & seqMask }
func (r *row) deleted() bool { return r.stamp&deletedFlag != 0 }
func (r *row) older() bool   { return r.stamp&olderFlag != 0 }

// dataBytes is the length of key and value.
func (r *row) dataBytes() int64 { return int64(r.keyLen) + int64(r.valLen) }

func (r *row) compare(key []byte) int { return bytes.Compare(r.key(), key) }

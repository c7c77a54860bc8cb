package memory

import "unsafe"

// row is the newest version of one key: where its bytes are, and when it came.
type row struct {
	place
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

func (r *row) seq() uint64   { return r.stamp & seqMask }
func (r *row) deleted() bool { return r.stamp&deletedFlag != 0 }
func (r *row) older() bool   { return r.stamp&olderFlag != 0 }

// pair is a row as readers get it.
type pair struct{ key, value []byte }

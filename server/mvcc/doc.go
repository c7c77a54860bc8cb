// Package mvcc keeps the revisions of one group's keys over an engine, with
// etcd's semantics: one revision a command that changed something, versions
// and creation revisions a generation, reads and history at every revision
// that was not compacted, and etcd's hash over the rows.
//
// What it owns: the rows of the Revisions space that carry the group's prefix,
// two compaction markers in Meta, and an index in memory from keys to their
// revisions, which Open rebuilds from the rows and OpenImage reads from a file.
//
// What it promises: readers see published revisions only, whole, and wait for
// neither the engine's writes nor each other. The same commands leave the same
// bytes in the engine, whatever the process; compaction removes rows at its
// own pace, and no answer depends on how far it has come, but for HashKV at the
// compact revision itself, which then is the hash of before the compaction.
//
// Who may call it: Range, History, HashKV, Rev and CompactRev run on any
// goroutine. Writer, its methods and CompactStep belong to one goroutine, the
// one that applies. Nothing here starts a goroutine or reads a clock.
//
// A row, as in etcd's own database after the group prefix (so that the hashes
// are equal and rows can be carried over):
//
//	key    group 4 | main 8 | '_' | sub 8 | 't' for a tombstone    big endian
//	value  mvccpb.KeyValue in protobuf; a tombstone holds the key only
package mvcc

import (
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

var (
	// ErrCompacted says that the revision is older than the last compaction.
	ErrCompacted = errors.New("mvcc: required revision has been compacted")
	// ErrFutureRev says that the revision has not been reached.
	ErrFutureRev = errors.New("mvcc: required revision is a future revision")
)

// firstRevision is the revision of a store that was never written.
const firstRevision = 1

// notCompacted is the compact revision of a store that was never compacted, as
// etcd reports it.
const notCompacted = -1

// Revision names one change: Main counts the commands that changed something,
// Sub the changes of one command.
type Revision struct{ Main, Sub int64 }

// RangeOptions say what Range reads.
type RangeOptions struct {
	// Rev is the revision to read at; 0 or less is the newest.
	Rev int64
	// Limit is how many pairs are wanted; 0 or less is all of them. The count
	// is of all pairs nevertheless.
	Limit int64
	// Uncounted leaves the count open: at an old revision, which nobody keeps a
	// count of, the read then ends at its limit.
	Uncounted bool
	// CountOnly leaves the pairs away.
	CountOnly bool
	// KeysOnly leaves values and leases away, as etcd does since 3.7.
	KeysOnly bool
	// EncodeTag, when it is not 0, wants the pairs of a published range in their
	// encoding: for each the tag, its length as a varint and its bytes, which is
	// a repeated field of a message that has this tag. KeysOnly is not heeded.
	EncodeTag byte
	// Grow, when it is set, is told how many bytes the pairs take, piece by piece
	// as they are read; its error ends the read. No lock is held meanwhile.
	Grow func(sizeBytes int) error
}

// RangeResult is what Range found.
type RangeResult struct {
	// KVs are in ascending order of the keys. The bytes of Key and Value are
	// shared with the engine and with events and must not be changed.
	KVs []*mvccpb.KeyValue
	// Encoded are the pairs where EncodeTag asked for them so; KVs is empty then.
	Encoded []byte
	// Count is how many pairs there are, beyond the limit too.
	Count int64
	// Rev is the store's revision when the read began.
	Rev int64
}

// DeletedKey is a key that DeleteRange removed, and the lease it had.
type DeletedKey struct {
	Key   []byte
	Lease int64
}

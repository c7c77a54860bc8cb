// Package raftlog is the write-ahead log that all raft groups of a process
// share, and each group's raft.Storage half over it (entries, terms, hard
// state). It owns its folder. It promises that what an Append that returned
// nil was given survives any crash, that Open recovers exactly that, or that
// and the whole of the one Append that was under way, and that damage is
// reported and never repaired by guessing. The host calls it; it starts no
// goroutine and reads no clock.
//
// Append and Close belong to one goroutine at a time. Compact and the methods
// of Group may be called from any goroutine meanwhile.
//
// # Files
//
// A segment is named by its sequence number, 20 decimal digits and ".log".
// Live segments have consecutive numbers; only the last is written to. A file
// named "spare-*.log" is empty of meaning: a freed segment waiting for reuse,
// or one being made. A segment starts with a header, made durable before the
// file gets its segment name:
//
//	offset size  all integers little-endian
//	     0    8  magic "MSRAFTLG"
//	     8    4  format version, 1
//	    12    4  zero
//	    16    8  sequence number
//	    24    8  epoch: the log's salt (upper half), sequence number (lower half)
//	    32    8  number of the first append in this segment
//	    40   20  zero
//	    60    4  CRC32C of bytes 0 to 59 (so in every later version too)
//	    64       records
//
// Records follow each other at multiples of 8:
//
//	 0    4  CRC32C of the segment's epoch (8 bytes), then of bytes 4 to
//	         the end of the payload
//	 4    4  length of the payload
//	 8    1  type
//	 9    1  flags: 1 last record of its append, 2 payload has a hard state
//	10    2  zero
//	12    4  group
//	16    8  append number
//	24       payload, then zeros up to a multiple of 8 (not verified)
//
// Payloads start with the hard state (term, vote, commit: 8 bytes each) when
// flag 2 is set, and go on with
//
//	1 entries     first index 8, count 4, zero 4, then for each entry: term 8,
//	              length of data 4, type 1, flags 1 (1: type set, 2: data not
//	              nil), zero 2, data
//	2 hard state  nothing more
//	3 reset       index 8, term 8: forget all entries, the log starts after it
//	4 compact     index 8, term 8: entries up to it are not needed
//	5 checkpoint  index 8, term 8 of the last compacted entry, last index 8:
//	              the group's state before this segment
//	6 mark        nothing; group 0: everything before was synced
//
// Bytes behind the last record are zeros or a recycled file's old records.
// Those can never verify: within a log two epochs differ in the lower 32 bits
// only, and CRC32 detects every difference that fits into 32 bits. The salt is
// random, so that a client cannot put a record that verifies into a value. And
// the appends in them have numbers that are long past.
//
// # Appends
//
// One Append is one write of one or more records into one segment, and one
// sync; its last record has flag 1. Appends are numbered without a gap, across
// segments. Number n+1 is only written after n was synced. An append that does
// not fit goes into a new segment; one that is larger than a segment makes its
// segment longer, and that file is not reused. The first append in a segment
// begins with a checkpoint of each known group, so that older segments can go.
//
// A commit index that moves alone is not written: it is published at once and
// written with the group's next record, or by Close. Raft recovers it from the
// leader; and compaction raises it to the compacted index.
//
// # Recovery
//
// Segments are replayed in order; an append counts only whole. In the last
// segment, where the appends end at number n, the rest of the file is searched
// for a record of this epoch that verifies and has a number above n. If there
// is one, n was once synced and is damaged now: ErrCorrupt. If there is none,
// n never returned to its caller: a torn tail. What verifies of it is zeroed,
// so that it cannot mix with what is written there next. The last whole append
// is written again and synced, as its own sync may have failed. Anything else that
// does not verify, in any segment, is ErrCorrupt: a header, a gap in the
// sequence of segments or of appends, a record that contradicts the state
// before it, entries that are missing though not compacted.
//
// Open and Close write a mark, an append without content. An Append that is
// synced leaves a mark behind itself too, which is not synced and which the next
// one overwrites, or that stays at the end of a segment without counting: a
// process that is killed leaves it to the operating system. So
// the only damage that looks like a torn tail is one to the last append before
// the power failed.
//
// # Failure
//
// After a write or sync that failed nobody knows what the disk holds (Linux
// drops the pages that it could not write and reports success the next time).
// The log is then poisoned: every later Append, Compact and Close gives the
// same error. So does an Append that breaks raft's rules.
//
// # Space
//
// A new file is written with zeros a step ahead of the records, once, so that
// later syncs need not allocate. Compact frees whole segments: at the next
// Append that writes, oldest first, and not while a reader reads one. At most
// two are kept for reuse.
package raftlog

package mvcc

import "go.etcd.io/etcd/api/v3/mvccpb"

const (
	// rowChunkLen is how much memory for rows is allocated at once; a row of a
	// quarter of it or more gets its own.
	rowChunkLen = 64 << 10
	ownRowLen   = rowChunkLen / 4
	// maxSlots is how many events are allocated at once, at most.
	maxSlots = 64
)

// eventSlot is one event with room for its pairs.
type eventSlot struct {
	event    mvccpb.Event
	kv, prev mvccpb.KeyValue
}

// rowMemory allocates events and rows for the writer, many at once. What it
// gave out is never used again: events live as long as a watcher keeps them.
type rowMemory struct {
	chunk []byte
	slots []eventSlot
	size  int
}

func (m *rowMemory) slot() *eventSlot {
	if len(m.slots) == 0 {
		m.size = min(max(1, 2*m.size), maxSlots)
		m.slots = make([]eventSlot, m.size)
	}
	s := &m.slots[0]
	m.slots = m.slots[1:]
	return s
}

// room is an empty slice with a capacity of n.
func (m *rowMemory) room(n int) []byte {
	if n >= ownRowLen {
		return make([]byte, 0, n)
	}
	if cap(m.chunk) < n {
		m.chunk = make([]byte, 0, rowChunkLen)
	}
	return m.chunk[:0:n]
}

// keep takes what was appended to room's slice out of the free memory.
func (m *rowMemory) keep(row []byte) {
	if len(row) < ownRowLen {
		m.chunk = m.chunk[len(row):cap(m.chunk)][:0]
	}
}

// rowParts finds the key and the value of kv in its encoded row.
func rowParts(row []byte, kv *mvccpb.KeyValue) (key, value []byte) {
	if n := len(kv.Key); n > 0 {
		from := bytesFieldLen(kv.Key) - n
		key = row[from : from+n : from+n]
	}
	if n := len(kv.Value); n > 0 {
		to := len(row) - intFieldLen(kv.Lease)
		value = row[to-n : to : to]
	}
	return key, value
}

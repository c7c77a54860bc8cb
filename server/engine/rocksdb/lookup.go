//go:build rocksdb

package rocksdb

// #include "shim.h"
import "C"

import (
	"sync"
	"unsafe"

	"metastore.io/metastore/server/engine"
)

// lookup is the memory that passes keys to the shim and lengths back.
type lookup struct {
	keys   []byte
	lens   []uint32
	values []int64
}

var lookups = sync.Pool{New: func() any { return &lookup{} }}

func (l *lookup) set(keys [][]byte) {
	l.keys, l.lens = l.keys[:0], l.lens[:0]
	for _, k := range keys {
		l.keys = append(l.keys, k...)
		l.lens = append(l.lens, uint32(len(k)))
	}
	if cap(l.values) < len(keys) {
		l.values = make([]int64, len(keys))
	}
	l.values = l.values[:len(keys)]
}

// walkKeys is from how many keys on it is tried whether they lie close together.
const walkKeys = 16

// get fills values[i] for keys[i].
func (h *handle) get(s engine.Space, at view, keys, values [][]byte) error {
	l := lookups.Get().(*lookup)
	defer lookups.Put(l)
	if len(keys) >= walkKeys {
		n, err := h.walk(l, s, at, keys, values)
		if err != nil {
			return err
		}
		keys, values = keys[n:], values[n:]
	}
	if len(keys) == 0 {
		return nil
	}
	return h.find(l, s, at, keys, values)
}

// find looks keys up one by one. The values share one allocation.
func (h *handle) find(l *lookup, s engine.Space, at view, keys, values [][]byte) error {
	l.set(keys)
	var text *C.char
	found := C.ms_get(h.db, h.cfs[s], unsafe.Pointer(at), chars(l.keys),
		(*C.uint32_t)(unsafe.SliceData(l.lens)), C.size_t(len(keys)), (*C.int64_t)(unsafe.SliceData(l.values)), &text)
	if text != nil {
		return takeError(text)
	}
	total := int64(0)
	for _, n := range l.values {
		total += max(n, 0)
	}
	all := make([]byte, total)
	C.ms_take(found, chars(all))
	cutValues(all, l.values, values)
	return nil
}

// cutValues shares out all to the values that have a length, which it returns
// the sum of.
func cutValues(all []byte, lens []int64, values [][]byte) (sum int) {
	for i, n := range lens {
		if n < 0 {
			values[i] = nil
			continue
		}
		values[i], all = all[:n:n], all[n:]
		sum += int(n)
	}
	return sum
}

const (
	// firstWalkBytes is what the values of a walk get at first; what fits tells
	// how long the others are. maxWalkBytes bounds what they get at a time, so
	// that a value that is kept keeps no more.
	firstWalkBytes = 2 << 10
	maxWalkBytes   = 1 << 20
)

// walk looks up what ascends and lies close together; it returns how many keys
// it did.
func (h *handle) walk(l *lookup, s engine.Space, at view, keys, values [][]byte) (done int, err error) {
	size := firstWalkBytes
	for done < len(keys) {
		l.set(keys[done:])
		buf := make([]byte, size)
		var text *C.char
		var need C.size_t
		n := int(C.ms_walk(h.db, h.cfs[s], unsafe.Pointer(at), chars(l.keys),
			(*C.uint32_t)(unsafe.SliceData(l.lens)), C.size_t(len(l.lens)), chars(buf), C.size_t(len(buf)),
			(*C.int64_t)(unsafe.SliceData(l.values)), &need, &text))
		if text != nil {
			return done, takeError(text)
		}
		used := cutValues(buf, l.values[:n], values[done:])
		done += n
		if need == 0 {
			break
		}
		// A sixteenth more than the rest needs if it is like what came.
		each := max(used/max(n, 1), int(need))
		size = max(int(need), min(maxWalkBytes, (len(keys)-done)*(each+each/16+1)))
	}
	return done, nil
}

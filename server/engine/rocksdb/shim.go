//go:build rocksdb

package rocksdb

// RocksDB is opened and configured through grocksdb; rows go through a few
// functions of our own beside it (shim.cc). RocksDB's C interface of 7.8 cannot
// flush several column families as one step, on which the crash safety of this
// engine hangs, and it takes several calls and copies a row where one call can
// serve many rows.

// #cgo CXXFLAGS: -std=c++17 -O2
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unsafe"

	"github.com/linxGnu/grocksdb"

	"metastore.io/metastore/server/engine"
)

// boundAllocator is called before the first database is opened.
var boundAllocator = sync.OnceFunc(func() { C.ms_bound_allocator() })

// handle is the database and its column families as the shim takes them.
type handle struct {
	db  *C.rocksdb_t
	cfs [engine.SpaceCount]*C.rocksdb_column_family_handle_t
}

// newHandle takes the C pointers out of grocksdb's values, which do not give
// them away. The database stays grocksdb's to close.
func newHandle(db *grocksdb.DB, cfs [engine.SpaceCount]*grocksdb.ColumnFamilyHandle) (h handle, err error) {
	if h.db = (*C.rocksdb_t)(cPointer(db)); h.db == nil {
		return h, errors.New("grocksdb's database has no field c")
	}
	for s, cf := range cfs {
		if h.cfs[s] = (*C.rocksdb_column_family_handle_t)(cPointer(cf)); h.cfs[s] == nil {
			return h, errors.New("grocksdb's column family has no field c")
		}
	}
	return h, nil
}

// cPointer reads the field c of a grocksdb value, nil when there is none.
func cPointer(v any) unsafe.Pointer {
	f := reflect.ValueOf(v).Elem().FieldByName("c")
	if !f.IsValid() || f.Kind() != reflect.Pointer {
		return nil
	}
	return f.UnsafePointer()
}

// view is what a read sees: nil is the newest state, else a snapshot.
type view unsafe.Pointer

// takeError makes a Go error of C text and frees it.
func takeError(text *C.char) error {
	if text == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(text))
	return wrapError(errors.New(C.GoString(text)))
}

// wrapError marks RocksDB's reports of stored bytes that do not verify.
func wrapError(err error) error {
	if err != nil && strings.HasPrefix(err.Error(), "Corruption:") {
		return fmt.Errorf("%w: %w", engine.ErrCorrupt, err)
	}
	return err
}

func chars(b []byte) *C.char { return (*C.char)(unsafe.Pointer(unsafe.SliceData(b))) }

func (h *handle) write(rep []byte) error {
	var text *C.char
	C.ms_write(h.db, chars(rep), C.size_t(len(rep)), &text)
	return takeError(text)
}

func (h *handle) flush() error {
	var text *C.char
	C.ms_flush(h.db, &h.cfs[0], C.size_t(len(h.cfs)), &text)
	return takeError(text)
}

func (h *handle) verify() error {
	var text *C.char
	C.ms_verify(h.db, &text)
	return takeError(text)
}

func (h *handle) compact(s engine.Space) error {
	var text *C.char
	C.ms_compact(h.db, h.cfs[s], &text)
	return takeError(text)
}

func (h *handle) snapshot() view  { return view(C.ms_snapshot(h.db)) }
func (h *handle) release(at view) { C.ms_release(h.db, unsafe.Pointer(at)) }

// scan reads rows in chunks of one call each.
type scan struct {
	c   unsafe.Pointer
	buf *[]byte
}

const (
	// scanBufferBytes is what a chunk of a scan takes; a longer row gets a
	// buffer of its own.
	scanBufferBytes = 64 << 10
	// firstChunkRows and maxChunkRows bound the rows of a chunk: few at first,
	// because many scans stop early.
	firstChunkRows, maxChunkRows = 8, 1024

	rowHeaderBytes = 8
)

var scanBuffers = sync.Pool{New: func() any { b := make([]byte, scanBufferBytes); return &b }}

func (h *handle) openScan(s engine.Space, at view, from, to []byte) *scan {
	toChars := chars(to)
	if to == nil {
		toChars = nil
	}
	return &scan{
		c: C.ms_scan_open(h.db, h.cfs[s], unsafe.Pointer(at),
			chars(from), C.size_t(len(from)), toChars, C.size_t(len(to))),
		buf: scanBuffers.Get().(*[]byte),
	}
}

func (s *scan) close() {
	C.ms_scan_close(s.c)
	scanBuffers.Put(s.buf)
}

// each calls fn for the rows from where the scan stands.
func (s *scan) each(fn func(key, value []byte) (bool, error)) error {
	buf := *s.buf
	for limit := firstChunkRows; ; limit = min(4*limit, maxChunkRows) {
		var text *C.char
		var need C.size_t
		rows := int(C.ms_scan_next(s.c, chars(buf), C.size_t(len(buf)), C.size_t(limit), &need, &text))
		rest := buf
		for range rows {
			var key, value []byte
			key, value, rest = cutRow(rest)
			if more, err := fn(key, value); err != nil || !more {
				if text != nil {
					C.free(unsafe.Pointer(text))
				}
				return err
			}
		}
		if text != nil || need == 0 {
			return takeError(text)
		}
		if int(need) > len(buf) {
			buf = make([]byte, need)
		}
	}
}

func cutRow(b []byte) (key, value, rest []byte) {
	k := rowHeaderBytes + int(binary.NativeEndian.Uint32(b))
	v := k + int(binary.NativeEndian.Uint32(b[4:]))
	return b[rowHeaderBytes:k:k], b[k:v:v], b[v:]
}

// scan reads the newest rows from <= key < to.
func (h *handle) scan(s engine.Space, from, to []byte, fn func(key, value []byte) (bool, error)) error {
	sc := h.openScan(s, nil, from, to)
	defer sc.close()
	return sc.each(fn)
}

//go:build rocksdb

package rocksdb

// #include "shim.h"
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"metastore.io/metastore/server/engine"
)

const (
	// loadChunkBytes is what rows are handed over in, and loadChunks how many
	// such chunks there are.
	loadChunkBytes = 256 << 10
	loadChunks     = 4
)

// Load writes table files beside the memtables and adds them as one step. A
// goroutine of its own fills the files while rows makes the next rows.
func (e *rocks) Load(s engine.Space, rows func(put func(key, value []byte) error) error) error {
	if err := checkSpace(s); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if !e.gate.enter() {
		return engine.ErrClosed
	}
	defer e.gate.leave()
	l := newLoader(&e.h, s)
	if err := l.run(rows); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	e.sizes.expire()
	return nil
}

// loader hands rows to the goroutine that writes them.
type loader struct {
	c unsafe.Pointer
	// chunk is being filled, with rows in the form of a scan's.
	chunk []byte
	// full are chunks to be written, in order; spare those that were.
	full, spare chan []byte
	// failed gets the one error of the goroutine, before it ends early.
	failed chan error
	// written is closed when the goroutine has ended.
	written chan struct{}
}

func newLoader(h *handle, s engine.Space) *loader {
	l := &loader{
		c:      C.ms_load_open(h.db, h.cfs[s]),
		full:   make(chan []byte, loadChunks),
		spare:  make(chan []byte, loadChunks),
		failed: make(chan error, 1), written: make(chan struct{}),
	}
	for range loadChunks {
		l.spare <- make([]byte, 0, loadChunkBytes)
	}
	l.chunk = <-l.spare
	return l
}

func (l *loader) run(rows func(put func(key, value []byte) error) error) error {
	defer C.ms_load_close(l.c)
	err := l.fill(rows)
	select {
	case failed := <-l.failed:
		if err == nil || errors.Is(err, errLoadFailed) {
			return failed
		}
		return errors.Join(failed, err)
	default:
	}
	if err != nil {
		return err
	}
	var text *C.char
	C.ms_load_add(l.c, &text)
	return takeError(text)
}

// fill returns, or panics with rows, when the goroutine has ended.
func (l *loader) fill(rows func(put func(key, value []byte) error) error) error {
	go l.write()
	defer func() {
		close(l.full)
		<-l.written
	}()
	if err := rows(l.put); err != nil {
		return err
	}
	return l.hand()
}

// errLoadFailed ends rows when the files cannot be written.
var errLoadFailed = errors.New("the rows are not taken any more")

func (l *loader) put(key, value []byte) error {
	if len(l.chunk) > 0 && len(l.chunk)+rowHeaderBytes+len(key)+len(value) > loadChunkBytes {
		if err := l.hand(); err != nil {
			return err
		}
	}
	l.chunk = binary.NativeEndian.AppendUint32(l.chunk, uint32(len(key)))
	l.chunk = binary.NativeEndian.AppendUint32(l.chunk, uint32(len(value)))
	l.chunk = append(append(l.chunk, key...), value...)
	return nil
}

// hand hands the chunk over and takes another.
func (l *loader) hand() error {
	select {
	case l.full <- l.chunk:
	case <-l.written:
		return errLoadFailed
	}
	select {
	case l.chunk = <-l.spare:
		return nil
	case <-l.written:
		l.chunk = nil
		return errLoadFailed
	}
}

func (l *loader) write() {
	defer close(l.written)
	for chunk := range l.full {
		var text *C.char
		C.ms_load_rows(l.c, chars(chunk), C.size_t(len(chunk)), &text)
		if text != nil {
			l.failed <- takeError(text)
			return
		}
		if cap(chunk) > loadChunkBytes { // of one large row
			chunk = make([]byte, 0, loadChunkBytes)
		}
		l.spare <- chunk[:0]
	}
}

//go:build rocksdb

package rocksdb

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"log/slog"
	"runtime/cgo"
	"unsafe"

	"github.com/linxGnu/grocksdb"
)

// logTo has a database that is opened with opts tell its warnings to logger.
func logTo(opts *grocksdb.Options, logger *slog.Logger) error {
	c := (*C.rocksdb_options_t)(cPointer(opts))
	if c == nil {
		return errors.New("grocksdb's options have no field c")
	}
	C.ms_log_to(c, C.uintptr_t(cgo.NewHandle(logger)))
	return nil
}

// msLog runs on RocksDB's threads.
//
//export msLog
func msLog(logger C.uintptr_t, isError C.int, text *C.char, n C.size_t) {
	level := slog.LevelWarn
	if isError != 0 {
		level = slog.LevelError
	}
	message := string(unsafe.Slice((*byte)(unsafe.Pointer(text)), n))
	cgo.Handle(logger).Value().(*slog.Logger).Log(context.Background(), level, "RocksDB tells", "text", message)
}

//export msLogDone
func msLogDone(logger C.uintptr_t) { cgo.Handle(logger).Delete() }

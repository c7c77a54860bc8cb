// Package rocksdb is the engine over RocksDB, for states larger than memory. It
// promises what package engine asks for: the raft log is the write-ahead log,
// so RocksDB's own is off, and all column families are flushed as one atomic
// step, so that after a crash both spaces stand at the same batch. node hands
// the engine out.
//
// It needs RocksDB and cgo and is built with the tag rocksdb; without the tag
// Open says so.
package rocksdb

import "log/slog"

// Opener opens RocksDB engines.
type Opener struct {
	// Options are DefaultOptions when they are left at their zero value.
	Options Options
	// Logger may be nil.
	Logger *slog.Logger
}

// Name is the engine's name in flags and markers.
func (o Opener) Name() string { return "rocksdb" }

// withDefaults fills what was left out and checks the rest.
func (o Opener) withDefaults() (Opener, error) {
	if o.Options == (Options{}) {
		o.Options = DefaultOptions()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, o.Options.Validate()
}

// Inspector opens databases that must not change, verifies all their files and
// gives them as engines that can be written to: what is written, and RocksDB's
// own work at an opening, goes to Scratch, a folder of the caller's that holds
// links to the table files, which RocksDB never writes to once they are made,
// and copies of the small files.
//
// Its read-only mode would not do: what the log holds beyond the tables could
// not be applied.
type Inspector struct {
	Opener
	// Scratch is what error texts may name instead of the folder above the
	// database's.
	Scratch string
}

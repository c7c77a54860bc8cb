package rocksdb

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Compression names how blocks of table files are compressed.
type Compression string

// The compressions that RocksDB is built with.
const (
	None   Compression = "none"
	Snappy Compression = "snappy"
	LZ4    Compression = "lz4"
	ZSTD   Compression = "zstd"
)

var compressions = []Compression{None, Snappy, LZ4, ZSTD}

// Options are the settings that fit an engine to its container. The rest is
// fixed in open.go, because the store's promises hang on it. As JSON they are
// part of what a member tells of itself.
type Options struct {
	// BlockCacheBytes bounds the cache of uncompressed blocks, indexes and
	// filters of all spaces together.
	BlockCacheBytes int64 `json:"blockCacheBytes"`
	// WriteBufferBytes is how large the newest rows of a space grow in memory
	// before they are written out; MaxWriteBufferNumber is how many such
	// buffers a space has before writes wait.
	WriteBufferBytes     int64 `json:"writeBufferBytes"`
	MaxWriteBufferNumber int   `json:"maxWriteBufferNumber"`
	// MaxBackgroundJobs bounds the threads that flush and compact.
	MaxBackgroundJobs int `json:"maxBackgroundJobs"`
	// BloomBitsPerKey sizes the filters that spare reads of absent keys; 0
	// means no filters.
	BloomBitsPerKey int         `json:"bloomBitsPerKey"`
	Compression     Compression `json:"compression"`
	// Level0FileNumCompactionTrigger is how many files of flushed rows start a
	// compaction; with Level0SlowdownWritesTrigger writes are slowed down, with
	// Level0StopWritesTrigger they wait.
	Level0FileNumCompactionTrigger int `json:"level0FileNumCompactionTrigger"`
	Level0SlowdownWritesTrigger    int `json:"level0SlowdownWritesTrigger"`
	Level0StopWritesTrigger        int `json:"level0StopWritesTrigger"`
	// MaxOpenFiles bounds the open table files; -1 keeps all open.
	MaxOpenFiles int `json:"maxOpenFiles"`
	// BytesPerSync is how much of a file is written before the operating
	// system is asked to begin with the disk; 0 leaves it to it.
	BytesPerSync int64 `json:"bytesPerSync"`
}

// DefaultOptions fit a container of about 1 GiB.
func DefaultOptions() Options {
	return Options{
		BlockCacheBytes:                128 << 20,
		WriteBufferBytes:               32 << 20,
		MaxWriteBufferNumber:           3,
		MaxBackgroundJobs:              2,
		BloomBitsPerKey:                10,
		Compression:                    LZ4,
		Level0FileNumCompactionTrigger: 4,
		Level0SlowdownWritesTrigger:    20,
		Level0StopWritesTrigger:        36,
		MaxOpenFiles:                   1024,
		BytesPerSync:                   1 << 20,
	}
}

// Validate names every field that is out of its range, with its value and what
// is allowed.
func (o Options) Validate() error {
	errs := []error{
		within("BlockCacheBytes", o.BlockCacheBytes, 1<<20, 1<<44),
		within("WriteBufferBytes", o.WriteBufferBytes, 64<<10, 64<<30),
		within("MaxWriteBufferNumber", int64(o.MaxWriteBufferNumber), 2, 64),
		within("MaxBackgroundJobs", int64(o.MaxBackgroundJobs), 1, 256),
		within("BloomBitsPerKey", int64(o.BloomBitsPerKey), 0, 32),
		within("Level0FileNumCompactionTrigger", int64(o.Level0FileNumCompactionTrigger), 1, 10_000),
		within("Level0SlowdownWritesTrigger", int64(o.Level0SlowdownWritesTrigger),
			int64(o.Level0FileNumCompactionTrigger), 100_000),
		within("Level0StopWritesTrigger", int64(o.Level0StopWritesTrigger),
			int64(o.Level0SlowdownWritesTrigger), 1_000_000),
		within("BytesPerSync", o.BytesPerSync, 0, 1<<30),
	}
	if o.MaxOpenFiles != -1 {
		errs = append(errs, within("MaxOpenFiles", int64(o.MaxOpenFiles), 64, 10_000_000))
	}
	if !slices.Contains(compressions, o.Compression) {
		errs = append(errs, fmt.Errorf("rocksdb option Compression is %q; allowed are %s",
			o.Compression, listed(compressions)))
	}
	return errors.Join(errs...)
}

func within(field string, value, low, high int64) error {
	if value >= low && value <= high {
		return nil
	}
	allowed := fmt.Sprintf("%d to %d", low, high)
	if field == "MaxOpenFiles" {
		allowed = "-1 and " + allowed
	}
	return fmt.Errorf("rocksdb option %s is %d; allowed are %s", field, value, allowed)
}

func listed(cs []Compression) string {
	names := make([]string, len(cs))
	for i, c := range cs {
		names[i] = string(c)
	}
	return strings.Join(names, ", ")
}

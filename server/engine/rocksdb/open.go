//go:build rocksdb

package rocksdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/linxGnu/grocksdb"

	"metastore.io/metastore/server/engine"
)

// Built tells whether this program holds RocksDB.
const Built = true

// familyNames are the column families, part of the on-disk format: RocksDB
// insists on the default one, which stays empty, and the spaces follow.
var familyNames = [1 + engine.SpaceCount]string{"default", "meta", "revisions"}

// Open opens the database in a folder or makes one in an empty folder.
func (o Opener) Open(dir string) (engine.Engine, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	e, err := o.open(dir, true)
	if err != nil {
		return nil, fmt.Errorf("open RocksDB in %s: %w", dir, err)
	}
	o.Logger.Info("opened RocksDB", "dir", dir, "options", o.Options)
	return e, nil
}

// open leaves the table files as they are when it is told not to compact.
func (o Opener) open(dir string, compact bool) (*rocks, error) {
	boundAllocator()
	if err := prepareDir(dir); err != nil {
		return nil, err
	}
	if err := checkManifest(dir); err != nil {
		return nil, err
	}
	s, err := newSettings(o.Options)
	if err != nil {
		return nil, err
	}
	defer s.destroy()
	s.opts.SetDisableAutoCompactions(!compact)
	if err := logTo(s.opts, o.Logger); err != nil {
		return nil, err
	}
	families := []*grocksdb.Options{s.opts, s.opts, s.opts}
	db, cfs, err := grocksdb.OpenDbColumnFamilies(s.opts, dir, familyNames[:], families)
	if err != nil {
		return nil, openError(err)
	}
	e, err := newRocks(db, cfs)
	if err != nil {
		for _, cf := range cfs {
			cf.Destroy()
		}
		db.Close()
		return nil, err
	}
	return e, nil
}

// prepareDir makes the folder durable, and refuses one that has table files
// but not the file that names the current manifest: RocksDB would take it for
// empty and begin a new database over the old one.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
		return err
	}
	current := filepath.Join(dir, "CURRENT")
	if _, err := os.Stat(current); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err == nil && len(tables) > 0 {
		err = fmt.Errorf("%w: %s is missing beside %d table files", engine.ErrCorrupt, current, len(tables))
	}
	return err
}

// openError makes RocksDB's words clear.
func openError(err error) error {
	text := err.Error()
	for _, sign := range []string{"While lock file", "lock hold by current process", "No locks available"} {
		if strings.Contains(text, sign) {
			return fmt.Errorf("another process has it open (%s)", text)
		}
	}
	return wrapError(err)
}

// settings are grocksdb's values of one opening. RocksDB copies them.
type settings struct {
	opts  *grocksdb.Options
	table *grocksdb.BlockBasedTableOptions
	cache *grocksdb.Cache
}

// fixedOptions are those that grocksdb has no setter for: a closing engine
// leaves unflushed rows to the raft log.
const fixedOptions = "avoid_flush_during_shutdown=true"

func newSettings(o Options) (*settings, error) {
	base := grocksdb.NewDefaultOptions()
	defer base.Destroy()
	opts, err := grocksdb.GetOptionsFromString(base, fixedOptions)
	if err != nil {
		return nil, fmt.Errorf("options %s: %w", fixedOptions, err)
	}
	s := &settings{
		opts:  opts,
		table: grocksdb.NewDefaultBlockBasedTableOptions(),
		cache: grocksdb.NewLRUCache(uint64(o.BlockCacheBytes)),
	}
	s.setTable(o)
	s.setKnobs(o)
	s.setFixed()
	return s, nil
}

// setTable keeps indexes and filters in the block cache, so that its size
// bounds the memory of reads.
func (s *settings) setTable(o Options) {
	s.table.SetBlockCache(s.cache)
	s.table.SetCacheIndexAndFilterBlocks(true)
	s.table.SetCacheIndexAndFilterBlocksWithHighPriority(true)
	s.table.SetPinL0FilterAndIndexBlocksInCache(true)
	s.table.SetFormatVersion(5)
	if o.BloomBitsPerKey > 0 {
		s.table.SetFilterPolicy(grocksdb.NewBloomFilterFull(float64(o.BloomBitsPerKey)))
	}
	s.opts.SetBlockBasedTableFactory(s.table)
}

func (s *settings) setKnobs(o Options) {
	s.opts.SetWriteBufferSize(uint64(o.WriteBufferBytes))
	s.opts.SetMaxWriteBufferNumber(o.MaxWriteBufferNumber)
	s.opts.SetMaxBackgroundJobs(o.MaxBackgroundJobs)
	s.opts.SetCompression(map[Compression]grocksdb.CompressionType{
		None: grocksdb.NoCompression, Snappy: grocksdb.SnappyCompression,
		LZ4: grocksdb.LZ4Compression, ZSTD: grocksdb.ZSTDCompression,
	}[o.Compression])
	s.opts.SetLevel0FileNumCompactionTrigger(o.Level0FileNumCompactionTrigger)
	s.opts.SetLevel0SlowdownWritesTrigger(o.Level0SlowdownWritesTrigger)
	s.opts.SetLevel0StopWritesTrigger(o.Level0StopWritesTrigger)
	s.opts.SetMaxOpenFiles(o.MaxOpenFiles)
	s.opts.SetBytesPerSync(uint64(o.BytesPerSync))
}

// setFixed sets what the engine's promises hang on.
func (s *settings) setFixed() {
	s.opts.SetCreateIfMissing(true)
	s.opts.SetCreateIfMissingColumnFamilies(true)
	s.opts.SetParanoidChecks(true)
	s.opts.SetAtomicFlush(true)
	s.opts.SetLevelCompactionDynamicLevelBytes(true)
	s.opts.SetStatsDumpPeriodSec(0)
	s.opts.SetStatsPersistPeriodSec(0)
}

func (s *settings) destroy() {
	s.opts.Destroy()
	s.table.Destroy()
	s.cache.Destroy()
}

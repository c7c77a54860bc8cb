package etcdfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"go.etcd.io/bbolt"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/state"
)

// filePattern names the file while it is being made.
const filePattern = "snapshot-*.db"

// Write makes a database of a frozen view in a temporary file in dir, which it
// makes when missing; an empty dir is the system's for temporary files. The
// view is needed no longer when it returns. The file has lost its name by
// then, so that whatever happens it is gone with the process.
func Write(ctx context.Context, dir string, s *state.Snapshot) (*Temp, error) {
	t, err := newTemp(dir)
	if err != nil {
		return nil, fmt.Errorf("write snapshot: %w", err)
	}
	err = t.fill(ctx, s)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write snapshot: %w", err), t.Close())
	}
	return t, nil
}

// newTemp opens an empty database. Nothing is synced: a snapshot that a crash
// interrupts is made anew.
func newTemp(dir string) (t *Temp, err error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	file, err := os.CreateTemp(dir, filePattern)
	if err != nil {
		return nil, err
	}
	t = &Temp{file: file}
	t.db, err = bbolt.Open(file.Name(), 0o600, &bbolt.Options{
		NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
	})
	// From here on both hold it open; Close looks again, where an open file
	// cannot be removed.
	_ = os.Remove(file.Name())
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Temp is a database in a file without a name. One goroutine uses it.
type Temp struct {
	file *os.File
	// db is nil once the file is whole.
	db        *bbolt.DB
	sizeBytes int64
}

// Close removes the file.
func (t *Temp) Close() error {
	var errs [3]error
	if t.db != nil {
		errs[0] = t.db.Close()
	}
	errs[1] = t.file.Close()
	if err := os.Remove(t.file.Name()); !errors.Is(err, fs.ErrNotExist) {
		errs[2] = err
	}
	return errors.Join(errs[:]...)
}

// fill writes all buckets and closes the database.
func (t *Temp) fill(ctx context.Context, s *state.Snapshot) error {
	if err := t.db.Update(func(tx *bbolt.Tx) error { return fillSmall(tx, s) }); err != nil {
		return err
	}
	if err := t.fillLeases(ctx, s); err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	if err := t.fillKeys(ctx, s); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := t.db.View(func(tx *bbolt.Tx) error { t.sizeBytes = tx.Size(); return nil }); err != nil {
		return err
	}
	err := t.db.Close()
	t.db = nil
	if err != nil {
		return err
	}
	return t.file.Truncate(t.sizeBytes) // bbolt takes space in steps
}

func (t *Temp) fillLeases(ctx context.Context, s *state.Snapshot) error {
	a := appender{db: t.db, bucket: bucketLease}
	err := lease.Scan(s, s.Group, func(l lease.Lease) error {
		return a.put(ctx, leaseKey(l.ID), appendLease(nil, l))
	})
	return a.end(err)
}

func (t *Temp) fillKeys(ctx context.Context, s *state.Snapshot) error {
	a := appender{db: t.db, bucket: bucketKey}
	prefix := s.Group.Key()
	err := s.Scan(engine.Revisions, prefix, engine.PrefixEnd(prefix), func(key, row []byte) (bool, error) {
		err := a.put(ctx, key[len(prefix):], row)
		return err == nil, err
	})
	return a.end(err)
}

// appender puts rows, which come in ascending order, into one bucket, many in a
// transaction.
type appender struct {
	db     *bbolt.DB
	bucket []byte
	// tx is nil between two batches; into is its bucket.
	tx   *bbolt.Tx
	into *bbolt.Bucket
	// arena holds the values of the transaction: bbolt copies keys only.
	arena []byte
	bytes int
}

func (a *appender) put(ctx context.Context, key, value []byte) error {
	if a.tx == nil {
		if err := a.begin(ctx); err != nil {
			return err
		}
	}
	start := len(a.arena)
	a.arena = append(a.arena, value...)
	if err := a.into.Put(key, a.arena[start:len(a.arena):len(a.arena)]); err != nil {
		return err
	}
	a.bytes += len(key) + len(value) + rowOverheadBytes
	if a.bytes < batchBytes {
		return nil
	}
	return a.commit()
}

func (a *appender) begin(ctx context.Context) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if a.tx, err = a.db.Begin(true); err != nil {
		return err
	}
	a.into = a.tx.Bucket(a.bucket)
	a.into.FillPercent = 1 // nothing comes between two rows later on
	a.arena, a.bytes = a.arena[:0], 0
	return nil
}

func (a *appender) commit() error {
	tx := a.tx
	a.tx = nil
	return tx.Commit()
}

// end commits the last batch, or takes it back after an error.
func (a *appender) end(err error) error {
	if a.tx == nil {
		return err
	}
	if err != nil {
		tx := a.tx
		a.tx = nil
		return errors.Join(err, tx.Rollback())
	}
	return a.commit()
}

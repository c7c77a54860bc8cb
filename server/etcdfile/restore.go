package etcdfile

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/state"
)

// Contents are what Inspect finds in a file.
type Contents struct {
	// Revision is the newest one that the file stands for.
	Revision   int64
	Compaction mvcc.Compaction
	// Index and Term are the place in the raft log that the file stands for; 0
	// where an old etcd did not note them.
	Index, Term uint64
}

// Inspect tells what CopyTo would copy, or why it cannot: bump, the revisions
// to be added, included.
func (f *File) Inspect(bump uint64) (c Contents, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		if c, err = readContents(tx); err != nil {
			return err
		}
		if bump > uint64(math.MaxInt64-1-c.Revision) {
			return fmt.Errorf("--bump-revision=%d is not valid: its revision is %d, and the sum is too large", bump, c.Revision)
		}
		return nil
	})
	return c, err
}

// CopyTo fills an empty engine with the keys and their history, the compaction
// state, the leases, the alarms, the users and the roles of a file that Inspect
// accepted. Members and the place in the log are not copied: they are those of
// another cluster.
//
// It returns the keys, which need not be read again.
//
// bump adds that many revisions and marks everything up to there as compacted,
// as etcdutl does: watchers and informers that have seen newer revisions than
// the file's then start anew instead of seeing time go backwards.
func (f *File) CopyTo(ctx context.Context, into engine.Engine, g engine.GroupID, bump uint64) (keys *mvcc.Store, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		c := copier{engine: into, group: g, batch: engine.NewBatch(), loader: mvcc.NewLoader(g)}
		contents, err := readContents(tx)
		if err != nil {
			return err
		}
		if bump > 0 {
			contents.Revision += int64(bump)
			contents.Compaction.Scheduled = contents.Revision
		}
		if err := c.keys(ctx, tx, contents, bump > 0); err != nil {
			return err
		}
		contents.Compaction.Stage(c.batch, g)
		if err := c.leases(tx); err != nil {
			return err
		}
		if err := c.alarms(tx); err != nil {
			return err
		}
		if err := c.auth(tx); err != nil {
			return err
		}
		if err := c.flush(); err != nil {
			return err
		}
		keys, err = c.loader.Open(into)
		return err
	})
	return keys, err
}

func (f *File) view(read func(tx *bbolt.Tx) error) error {
	err := guard(func() error { return f.db.View(read) })
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

func readContents(tx *bbolt.Tx) (c Contents, err error) {
	meta := tx.Bucket(bucketMeta)
	c.Index, c.Term = metaUint64(meta.Get(metaIndex)), metaUint64(meta.Get(metaTerm))
	c.Compaction = mvcc.Compaction{Scheduled: -1, Finished: -1}
	if v := meta.Get(metaScheduled); v != nil {
		if c.Compaction.Scheduled, err = revisionMain(v); err != nil {
			return c, err
		}
	}
	if v := meta.Get(metaFinished); v != nil {
		if c.Compaction.Finished, err = revisionMain(v); err != nil {
			return c, err
		}
	}
	// etcd may have finished an older one without having noted that.
	c.Compaction.Scheduled = max(c.Compaction.Scheduled, c.Compaction.Finished)
	// The rows of the newest revisions may have been compacted away.
	c.Revision = max(c.Compaction.Scheduled, 0)
	if k, _ := tx.Bucket(bucketKey).Cursor().Last(); k != nil {
		newest, err := revisionMain(k)
		if err != nil {
			return c, err
		}
		c.Revision = max(c.Revision, newest)
	}
	return c, nil
}

// metaUint64 reads an integer of the bucket meta; 0 where there is none.
func metaUint64(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// copier fills an engine: with the keys at first, then with the rest in batches.
type copier struct {
	engine engine.Engine
	group  engine.GroupID
	batch  *engine.Batch
	loader *mvcc.Loader
}

// full writes the batch once it is large.
func (c *copier) full() error {
	if c.batch.SizeBytes()+c.batch.Len()*rowOverheadBytes < batchBytes {
		return nil
	}
	return c.flush()
}

func (c *copier) flush() error {
	if err := c.engine.Apply(c.batch); err != nil {
		return fmt.Errorf("store rows: %w", err)
	}
	c.batch.Reset()
	return nil
}

// cancelRows is how many rows are copied between two looks at the context.
const cancelRows = 10_000

// keys copies the keys and their history. A bumped copy ends with what etcdutl
// writes: an empty row, at the new revision, which belongs to the empty key that
// no client can name.
func (c *copier) keys(ctx context.Context, tx *bbolt.Tx, contents Contents, bumped bool) error {
	err := c.engine.Load(engine.Revisions, func(put func(key, value []byte) error) error {
		row := c.group.Key()
		prefix := len(row)
		add := func(k, v []byte) error {
			row = append(row[:prefix], k...)
			if err := c.loader.Add(row, v); err != nil {
				return err
			}
			return put(row, v)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		cursor, n := tx.Bucket(bucketKey).Cursor(), 0
		for k, v := cursor.First(); k != nil; k, v = cursor.Next() {
			if err := add(k, v); err != nil {
				return err
			}
			if n++; n%cancelRows == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if bumped {
			return add(appendRevision(nil, contents.Revision), nil)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store keys: %w", err)
	}
	return nil
}

func (c *copier) leases(tx *bbolt.Tx) error {
	b := tx.Bucket(bucketLease)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		l, err := parseLease(k, v)
		if err != nil {
			return err
		}
		l.Stage(c.batch, c.group)
		return c.full()
	})
}

func (c *copier) alarms(tx *bbolt.Tx) error {
	b := tx.Bucket(bucketAlarm)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, _ []byte) error {
		a := &pb.AlarmMember{}
		if err := proto.Unmarshal(k, a); err != nil {
			return fmt.Errorf("alarm %x: %w: %w", k, err, engine.ErrCorrupt)
		}
		state.StageAlarm(c.batch, c.group, a)
		return nil
	})
}

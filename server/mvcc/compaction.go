package mvcc

import (
	"encoding/binary"
	"fmt"

	"metastore.io/metastore/server/engine"
)

// Rows of Meta, after the group: a format version and a revision (8 bytes, big
// endian).
var (
	scheduledName = []byte("mvcc/compact-scheduled")
	finishedName  = []byte("mvcc/compact-finished")
)

const markerVersion = 1

// Compaction says how far a group's rows are compacted. A revision below 0
// means that there was no compaction.
type Compaction struct {
	// Scheduled is the newest revision that was compacted to: older ones cannot
	// be read. Finished is the newest one whose rows are gone.
	// Invariant: Finished <= Scheduled.
	Scheduled, Finished int64
}

// newest is the newest revision when that of the rows is last: the rows of the
// newest revisions may have been compacted away.
func (c Compaction) newest(last int64) int64 { return max(last, c.Scheduled, firstRevision) }

// ReadCompaction reads it from the rows, for a view that no Store is open on.
func ReadCompaction(r engine.Reader, g engine.GroupID) (c Compaction, err error) {
	if c.Scheduled, err = readMarker(r, g, scheduledName); err != nil {
		return Compaction{}, err
	}
	c.Finished, err = readMarker(r, g, finishedName)
	return c, err
}

// Stage stages the rows, for an engine that no Store is open on.
func (c Compaction) Stage(b *engine.Batch, g engine.GroupID) {
	for _, m := range []struct {
		name []byte
		rev  int64
	}{{scheduledName, c.Scheduled}, {finishedName, c.Finished}} {
		if m.rev >= 0 {
			putMarker(b, g, m.name, m.rev)
		}
	}
}

// readMarker reads a revision from Meta; notCompacted when it is not there.
func readMarker(r engine.Reader, g engine.GroupID, name []byte) (int64, error) {
	v, ok, err := r.Get(engine.Meta, g.Key(name))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	if !ok {
		return notCompacted, nil
	}
	if len(v) != 9 || v[0] != markerVersion {
		return 0, fmt.Errorf("read %s: value %x: %w", name, v, engine.ErrCorrupt)
	}
	return int64(binary.BigEndian.Uint64(v[1:])), nil
}

func putMarker(b *engine.Batch, g engine.GroupID, name []byte, rev int64) {
	v := binary.BigEndian.AppendUint64([]byte{markerVersion}, uint64(rev))
	b.Put(engine.Meta, g.Key(name), v)
}

func (s *Store) putMarker(b *engine.Batch, name []byte, rev int64) { putMarker(b, s.group, name, rev) }

package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/engine"
)

// Rows in engine.Meta. A key is the group (4 bytes, BE), "state/" and:
//
//	"applied"                               index (8 B) | term (8 B) | revision (8 B)
//	"cluster"                               cluster ID (8 B)
//	"version"                               cluster version, text
//	"downgrade"                             what the cluster may go down to, text
//	"member/"  | ID (8 B)                   see appendMember
//	"removed/" | ID (8 B)                   nothing
//	"alarm/"   | type (4 B) | member (8 B)  nothing
//
// Each value begins with its format version, one byte: 1, but 2 for "applied",
// whose version 1 has no revision. Integers are big endian. The configuration of raft is not a row: it follows from the members.
const (
	rowVersion     = 1
	appliedVersion = 2

	rowsPrefix    = "state/"
	rowApplied    = "applied"
	rowCluster    = "cluster"
	rowVersionTag = "version"
	rowDowngrade  = "downgrade"
	rowMember     = "member/"
	rowRemoved    = "removed/"
	rowAlarm      = "alarm/"
)

func rowKey(g engine.GroupID, name string, ids ...uint64) []byte {
	key := g.Append(make([]byte, 0, 4+len(rowsPrefix)+len(name)+8*len(ids)))
	key = append(append(key, rowsPrefix...), name...)
	for _, id := range ids {
		key = binary.BigEndian.AppendUint64(key, id)
	}
	return key
}

func alarmKey(g engine.GroupID, a alarm) []byte {
	key := binary.BigEndian.AppendUint32(rowKey(g, rowAlarm), uint32(a.kind))
	return binary.BigEndian.AppendUint64(key, a.member)
}

func putApplied(b *engine.Batch, g engine.GroupID, index, term uint64, rev int64) {
	v := binary.BigEndian.AppendUint64([]byte{appliedVersion}, index)
	v = binary.BigEndian.AppendUint64(v, term)
	b.Put(engine.Meta, rowKey(g, rowApplied), binary.BigEndian.AppendUint64(v, uint64(rev)))
}

func putClusterID(b *engine.Batch, g engine.GroupID, id uint64) {
	b.Put(engine.Meta, rowKey(g, rowCluster), binary.BigEndian.AppendUint64([]byte{rowVersion}, id))
}

func putClusterVersion(b *engine.Batch, g engine.GroupID, v string) {
	b.Put(engine.Meta, rowKey(g, rowVersionTag), append([]byte{rowVersion}, v...))
}

func putDowngrade(b *engine.Batch, g engine.GroupID, target string) {
	if target == "" {
		b.Delete(engine.Meta, rowKey(g, rowDowngrade))
	} else {
		b.Put(engine.Meta, rowKey(g, rowDowngrade), append([]byte{rowVersion}, target...))
	}
}

func putMember(b *engine.Batch, g engine.GroupID, m Member) {
	b.Put(engine.Meta, rowKey(g, rowMember, m.ID), appendMember([]byte{rowVersion}, m))
}

func putRemoved(b *engine.Batch, g engine.GroupID, id uint64) {
	b.Delete(engine.Meta, rowKey(g, rowMember, id))
	b.Put(engine.Meta, rowKey(g, rowRemoved, id), []byte{rowVersion})
}

func putAlarm(b *engine.Batch, g engine.GroupID, a alarm, on bool) {
	if on {
		b.Put(engine.Meta, alarmKey(g, a), []byte{rowVersion})
	} else {
		b.Delete(engine.Meta, alarmKey(g, a))
	}
}

// stored is what the rows say.
type stored struct {
	index, term uint64
	// rev is the newest revision at index, which the space of revisions has to
	// hold, so that a loss there shows; 0 where it was not written.
	rev     int64
	cluster cluster
}

// load reads all rows of the group. Errors wrap engine.ErrCorrupt where a row
// does not decode.
func load(r engine.Reader, g engine.GroupID) (*stored, error) {
	s := &stored{}
	prefix := rowKey(g, "")
	err := r.Scan(engine.Meta, prefix, engine.PrefixEnd(prefix), func(key, value []byte) (bool, error) {
		name := key[len(prefix):]
		if err := s.row(name, value); err != nil {
			return false, fmt.Errorf("row %q: %w: %w", name, err, engine.ErrCorrupt)
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	slices.SortFunc(s.cluster.alarms, compareAlarms)
	return s, nil
}

// row takes one row in; rows come in the order of their keys, so that lists of
// IDs come out sorted.
func (s *stored) row(name, value []byte) error {
	id := decoder{b: name}
	v := decoder{b: value}
	withRev := string(name) == rowApplied && len(value) > 0 && value[0] == appliedVersion
	if withRev {
		v.version(appliedVersion)
	} else {
		v.version(rowVersion)
	}
	switch {
	case string(name) == rowApplied:
		id.take(len(name))
		s.index, s.term = v.uint64(), v.uint64()
		if withRev {
			s.rev = int64(v.uint64())
		}
	case string(name) == rowCluster:
		id.take(len(name))
		s.cluster.id = v.uint64()
	case string(name) == rowVersionTag:
		id.take(len(name))
		s.cluster.version = string(v.take(len(v.b)))
	case string(name) == rowDowngrade:
		id.take(len(name))
		s.cluster.downgrade = string(v.take(len(v.b)))
	case bytes.HasPrefix(name, []byte(rowMember)):
		id.take(len(rowMember))
		m := v.member()
		if id.uint64() != m.ID {
			id.fail("it holds member %x", m.ID)
		}
		s.cluster.members = append(s.cluster.members, m)
	case bytes.HasPrefix(name, []byte(rowRemoved)):
		id.take(len(rowRemoved))
		s.cluster.removed = append(s.cluster.removed, id.uint64())
	case bytes.HasPrefix(name, []byte(rowAlarm)):
		id.take(len(rowAlarm))
		a := alarm{kind: pb.AlarmType(id.uint32())}
		a.member = id.uint64()
		s.cluster.alarms = append(s.cluster.alarms, a)
	default:
		return fmt.Errorf("%w: unknown name", ErrFormat)
	}
	if err := id.end(); err != nil {
		return err
	}
	return v.end()
}

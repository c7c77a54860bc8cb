package state

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/engine"
)

// Snapshot is a frozen view of the machine with the position in the log that it
// stands for. Close it.
type Snapshot struct {
	engine.Snapshot
	// Group is whose rows these are; the engine may hold those of others.
	Group       engine.GroupID
	Index, Term uint64
	ConfState   ConfState
	Cluster     Cluster
}

// Cluster is what the state holds beside keys and leases, for those who carry
// it elsewhere.
type Cluster struct {
	ID      uint64
	Version string // empty until it was set
	// Downgrade is what the cluster may go down to; empty when it may not.
	Downgrade string
	Members   []Member // sorted by ID
	Removed   []uint64 // sorted
	Alarms    []*pb.AlarmMember
}

// StageAlarm stages a raised alarm for an engine that no machine is open on.
func StageAlarm(b *engine.Batch, g engine.GroupID, a *pb.AlarmMember) {
	putAlarm(b, g, alarm{kind: a.Alarm, member: a.MemberID}, true)
}

// Snapshot freezes a view of everything applied, without making Apply wait.
// Position and membership are read from the view itself, and so belong to it
// even while Apply goes on.
func (m *Machine) Snapshot() (*Snapshot, error) {
	view, err := m.engine.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("snapshot engine: %w", err)
	}
	s, err := load(view, m.group)
	if err != nil {
		_ = view.Close() // the first error is the one to tell
		return nil, err
	}
	c := &s.cluster
	return &Snapshot{
		Snapshot: view, Group: m.group, Index: s.index, Term: s.term, ConfState: c.confState(),
		Cluster: Cluster{
			ID: c.id, Version: c.version, Downgrade: c.downgrade, Members: c.members, Removed: c.removed,
			Alarms: c.alarmMembers(pb.AlarmType_NONE),
		},
	}, nil
}

// Hash is a CRC32C over all rows of the group. Members with the same applied
// index whose compaction is done have the same hash.
func (m *Machine) Hash() (hash uint32, err error) {
	view, err := m.engine.Snapshot()
	if err != nil {
		return 0, fmt.Errorf("snapshot engine: %w", err)
	}
	defer func() {
		if cerr := view.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close snapshot: %w", cerr)
		}
	}()
	table := crc32.MakeTable(crc32.Castagnoli)
	prefix := m.group.Key()
	var head []byte
	for s := engine.Space(0); s < engine.SpaceCount; s++ {
		err := view.Scan(s, prefix, engine.PrefixEnd(prefix), func(key, value []byte) (bool, error) {
			head = append(head[:0], byte(s))
			head = binary.AppendUvarint(head, uint64(len(key)))
			head = binary.AppendUvarint(head, uint64(len(value)))
			hash = crc32.Update(hash, table, head)
			hash = crc32.Update(hash, table, key)
			hash = crc32.Update(hash, table, value)
			return true, nil
		})
		if err != nil {
			return 0, fmt.Errorf("hash rows: %w", err)
		}
	}
	return hash, nil
}

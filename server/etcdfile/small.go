package etcdfile

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/state"
)

// rowPut is one row of a small bucket.
type rowPut struct{ bucket, key, value []byte }

// fillSmall makes all buckets, and fills those with few rows.
func fillSmall(tx *bbolt.Tx, s *state.Snapshot) error {
	for _, b := range buckets {
		if _, err := tx.CreateBucket(b); err != nil {
			return fmt.Errorf("bucket %s: %w", b, err)
		}
	}
	for _, rows := range []func(*state.Snapshot) ([]rowPut, error){metaRows, clusterRows, authRows} {
		puts, err := rows(s)
		if err != nil {
			return err
		}
		for _, p := range puts {
			if err := tx.Bucket(p.bucket).Put(p.key, p.value); err != nil {
				return fmt.Errorf("bucket %s: %w", p.bucket, err)
			}
		}
	}
	return nil
}

func metaRows(s *state.Snapshot) ([]rowPut, error) {
	joint := false
	conf, err := json.Marshal(&raftpb.ConfState{Voters: s.ConfState.Voters, Learners: s.ConfState.Learners, AutoLeave: &joint})
	if err != nil {
		return nil, fmt.Errorf("encode the membership: %w", err)
	}
	puts := []rowPut{
		{bucketMeta, metaIndex, uint64Bytes(s.Index)},
		{bucketMeta, metaTerm, uint64Bytes(s.Term)},
		{bucketMeta, metaConfState, conf},
		{bucketMeta, metaStorageVersion, []byte(StorageVersionOf(s.Cluster.Version))},
	}
	c, err := mvcc.ReadCompaction(s, s.Group)
	if err != nil {
		return nil, err
	}
	if c.Scheduled >= 0 {
		puts = append(puts, rowPut{bucketMeta, metaScheduled, appendRevision(nil, c.Scheduled)})
	}
	if c.Finished >= 0 {
		puts = append(puts, rowPut{bucketMeta, metaFinished, appendRevision(nil, c.Finished)})
	}
	return puts, nil
}

// memberJSON is a member as etcd stores it.
type memberJSON struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// downgradeJSON is what etcd stores about a downgrade that is allowed.
type downgradeJSON struct {
	Target  string `json:"target-version"`
	Enabled bool   `json:"enabled"`
}

// StorageVersionOf is the storage version in a cluster of the given version. One
// that may go down to v3.6 has files of v3.6, which differ in nothing else.
func StorageVersionOf(cluster string) string {
	if strings.HasPrefix(cluster, "3.6.") {
		return "3.6.0"
	}
	return StorageVersion
}

func clusterRows(s *state.Snapshot) ([]rowPut, error) {
	var puts []rowPut
	if v := s.Cluster.Version; v != "" {
		puts = append(puts, rowPut{bucketCluster, clusterVersion, []byte(v)})
	}
	if target := s.Cluster.Downgrade; target != "" {
		v, err := json.Marshal(downgradeJSON{Target: target, Enabled: true})
		if err != nil {
			return nil, fmt.Errorf("encode downgrade: %w", err)
		}
		puts = append(puts, rowPut{bucketCluster, clusterDowngrade, v})
	}
	for _, m := range s.Cluster.Members {
		v, err := json.Marshal(memberJSON{ID: m.ID, PeerURLs: m.PeerURLs, IsLearner: m.Learner, Name: m.Name, ClientURLs: m.ClientURLs})
		if err != nil {
			return nil, fmt.Errorf("encode member %x: %w", m.ID, err)
		}
		puts = append(puts, rowPut{bucketMembers, memberKey(m.ID), v})
	}
	for _, id := range s.Cluster.Removed {
		puts = append(puts, rowPut{bucketMembersRemoved, memberKey(id), []byte("removed")})
	}
	for _, a := range s.Cluster.Alarms {
		k, err := proto.Marshal(a)
		if err != nil {
			return nil, fmt.Errorf("encode alarm: %w", err)
		}
		puts = append(puts, rowPut{bucketAlarm, k, nil})
	}
	return puts, nil
}

func memberKey(id uint64) []byte { return strconv.AppendUint(nil, id, 16) }

func uint64Bytes(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// appendRevision appends a revision as etcd writes it.
func appendRevision(b []byte, main int64) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(main))
	return binary.BigEndian.AppendUint64(append(b, '_'), 0)
}

// revisionMain reads the main part of a revision, or of a key of the bucket key.
func revisionMain(b []byte) (int64, error) {
	tombstone := len(b) == revisionBytes+1 && b[revisionBytes] == 't'
	if len(b) != revisionBytes && !tombstone || b[8] != '_' {
		return 0, fmt.Errorf("revision %x is malformed: %w", b, engine.ErrCorrupt)
	}
	main := int64(binary.BigEndian.Uint64(b))
	if main < 0 {
		return 0, fmt.Errorf("revision %x is out of bounds: %w", b, engine.ErrCorrupt)
	}
	return main, nil
}

// Fields of leasepb.Lease. The third, what remained of the TTL, is not known
// here and not needed: a lease begins anew under a new leader.
const (
	leaseFieldID  protowire.Number = 1
	leaseFieldTTL protowire.Number = 2
)

func leaseKey(id lease.ID) []byte { return uint64Bytes(uint64(id)) }

func appendLease(b []byte, l lease.Lease) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, leaseFieldID, protowire.VarintType), uint64(l.ID))
	return protowire.AppendVarint(protowire.AppendTag(b, leaseFieldTTL, protowire.VarintType), uint64(l.TTLSeconds))
}

// parseLease reads a row of the bucket lease.
func parseLease(key, value []byte) (l lease.Lease, err error) {
	for rest := value; len(rest) > 0; {
		field, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return l, fmt.Errorf("lease %x: %w: %w", key, protowire.ParseError(n), engine.ErrCorrupt)
		}
		rest = rest[n:]
		if n = protowire.ConsumeFieldValue(field, kind, rest); n < 0 {
			return l, fmt.Errorf("lease %x: %w: %w", key, protowire.ParseError(n), engine.ErrCorrupt)
		}
		if v, m := protowire.ConsumeVarint(rest); kind == protowire.VarintType && m > 0 {
			switch field {
			case leaseFieldID:
				l.ID = lease.ID(v)
			case leaseFieldTTL:
				l.TTLSeconds = int64(v)
			}
		}
		rest = rest[n:]
	}
	if l.ID == 0 || string(leaseKey(l.ID)) != string(key) || l.TTLSeconds > lease.MaxTTLSeconds {
		return l, fmt.Errorf("lease %x: its row says ID %x and %d seconds: %w", key, int64(l.ID), l.TTLSeconds, engine.ErrCorrupt)
	}
	l.TTLSeconds = max(l.TTLSeconds, 1)
	return l, nil
}

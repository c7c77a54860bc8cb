package state

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// MaxLearners is the number of learners that a cluster may have at a time unless
// its members are told otherwise, as etcd's default has it.
const MaxLearners = 1

// Member is one member of the cluster.
type Member struct {
	ID         uint64
	Name       string // empty until the member published itself
	PeerURLs   []string
	ClientURLs []string
	Learner    bool
}

// Clone returns a copy that shares nothing with m.
func (m Member) Clone() Member {
	m.PeerURLs = slices.Clone(m.PeerURLs)
	m.ClientURLs = slices.Clone(m.ClientURLs)
	return m
}

// MemberChangeKind says what a membership change does. The numbers are part of
// the log's format.
type MemberChangeKind uint8

const (
	AddVoter   MemberChangeKind = 1
	AddLearner MemberChangeKind = 2
	// Promote makes a learner a voter. Only Member.ID counts.
	Promote MemberChangeKind = 3
	// Remove removes a member for ever. Only Member.ID counts.
	Remove MemberChangeKind = 4
)

func (k MemberChangeKind) String() string {
	switch k {
	case AddVoter:
		return "add voter"
	case AddLearner:
		return "add learner"
	case Promote:
		return "promote"
	case Remove:
		return "remove"
	}
	return fmt.Sprintf("member change %d", uint8(k))
}

// MemberChange is one change of the membership. It travels in the context of a
// raft configuration change.
type MemberChange struct {
	Kind   MemberChangeKind
	Member Member
	// MaxLearners is how many learners the cluster may have with an AddLearner,
	// as its proposer was told; 0 is the constant of that name, negative none.
	MaxLearners int32
}

// mayAddLearner tells whether one more learner is allowed beside those.
func (c MemberChange) mayAddLearner(learners int) bool {
	if c.MaxLearners == 0 {
		return learners < MaxLearners
	}
	return learners < int(c.MaxLearners)
}

// ConfState is the membership as raft needs it; both lists are sorted.
type ConfState struct {
	Voters, Learners []uint64
}

// Clone returns a copy that shares nothing with c.
func (c ConfState) Clone() ConfState {
	return ConfState{Voters: slices.Clone(c.Voters), Learners: slices.Clone(c.Learners)}
}

// changeVersion is the format of a membership change, and limitedVersion that of
// one with a limit of its own:
//
//	+---------+--------+-----------------+-------------+
//	| version | kind   | member          | limit       |
//	| 1 byte  | 1 byte | see appendMember| 4 B, BE     |
//	+---------+--------+-----------------+-------------+
//
// The limit is MaxLearners in two's complement; version 1 is without it.
const (
	changeVersion  = 1
	limitedVersion = 2
)

// Encode encodes a change for the log.
func (c MemberChange) Encode() []byte {
	if c.MaxLearners == 0 {
		return appendMember([]byte{changeVersion, byte(c.Kind)}, c.Member)
	}
	b := appendMember([]byte{limitedVersion, byte(c.Kind)}, c.Member)
	return binary.BigEndian.AppendUint32(b, uint32(c.MaxLearners))
}

// DecodeMemberChange is the inverse of Encode. Errors wrap ErrFormat.
func DecodeMemberChange(data []byte) (MemberChange, error) {
	d := decoder{b: data}
	limited := len(data) > 0 && data[0] == limitedVersion
	if limited {
		d.version(limitedVersion)
	} else {
		d.version(changeVersion)
	}
	c := MemberChange{Kind: MemberChangeKind(d.byte())}
	if d.err == nil && (c.Kind < AddVoter || c.Kind > Remove) {
		d.fail("unknown kind %d", uint8(c.Kind))
	}
	c.Member = d.member()
	if limited {
		if c.MaxLearners = int32(d.uint32()); d.err == nil && c.MaxLearners == 0 {
			d.fail("a limit of 0 has no place")
		}
	}
	if err := d.end(); err != nil {
		return MemberChange{}, fmt.Errorf("decode member change: %w", err)
	}
	return c, nil
}

// memberLearner is bit 0 of a member's flags; the other bits are 0.
const memberLearner = 1

// appendMember appends a member:
//
//	+---------+--------+----------+-----------+-------------+
//	| ID      | flags  | name     | peer URLs | client URLs |
//	| 8 B, BE | 1 byte | string   | strings   | strings     |
//	+---------+--------+----------+-----------+-------------+
//
// A string is a uvarint length and the bytes; strings are a uvarint count and
// that many strings.
func appendMember(b []byte, m Member) []byte {
	var flags byte
	if m.Learner {
		flags |= memberLearner
	}
	b = binary.BigEndian.AppendUint64(b, m.ID)
	b = append(b, flags)
	b = appendString(b, m.Name)
	b = appendStrings(b, m.PeerURLs)
	return appendStrings(b, m.ClientURLs)
}

func (d *decoder) member() Member {
	m := Member{ID: d.uint64()}
	flags := d.byte()
	if d.err == nil && flags&^memberLearner != 0 {
		d.fail("unknown member flags %#x", flags)
	}
	m.Learner = flags&memberLearner != 0
	m.Name = string(d.bytes())
	m.PeerURLs = d.strings()
	m.ClientURLs = d.strings()
	return m
}

package state

import (
	"cmp"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// cluster is what is known about the cluster besides its keys and leases.
// Values are immutable: a change makes a new one, so that readers need no lock.
type cluster struct {
	id      uint64
	members []Member // sorted by ID
	removed []uint64 // sorted; IDs that never come back
	alarms  []alarm  // sorted by compareAlarms
	version string   // empty until the first KindClusterVersion
	// downgrade is the version that the cluster is allowed to go down to; empty
	// when it is not.
	downgrade string
}

// alarm is one raised alarm.
type alarm struct {
	kind   pb.AlarmType
	member uint64
}

func compareAlarms(a, b alarm) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.member, b.member))
}

func (c *cluster) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(c.members, id, func(m Member, id uint64) int { return cmp.Compare(m.ID, id) })
}

func (c *cluster) isRemoved(id uint64) bool {
	_, ok := slices.BinarySearch(c.removed, id)
	return ok
}

// confState derives what raft needs from the members; it is not stored by
// itself, so that the two cannot contradict each other.
func (c *cluster) confState() ConfState {
	var s ConfState
	for _, m := range c.members {
		if m.Learner {
			s.Learners = append(s.Learners, m.ID)
		} else {
			s.Voters = append(s.Voters, m.ID)
		}
	}
	return s
}

// check says whether a change is valid now, in etcd's order of checks.
func (c *cluster) check(ch MemberChange) error {
	id := ch.Member.ID
	if id == 0 && (ch.Kind == AddVoter || ch.Kind == AddLearner) {
		return fmt.Errorf("member ID 0: %w", ErrMalformed)
	}
	if c.isRemoved(id) {
		return ErrIDRemoved
	}
	i, found := c.find(id)
	switch ch.Kind {
	case AddVoter, AddLearner:
		if found {
			return ErrIDExists
		}
		return c.checkAdd(ch)
	case Promote:
		if !found {
			return ErrMemberNotFound
		}
		if !c.members[i].Learner {
			return ErrNotLearner
		}
		return nil
	case Remove:
		if !found {
			return ErrMemberNotFound
		}
		if !c.members[i].Learner && len(c.confState().Voters) == 1 {
			return ErrLastVoter
		}
		return nil
	}
	return fmt.Errorf("%v: %w", ch.Kind, ErrMalformed)
}

func (c *cluster) checkAdd(ch MemberChange) error {
	if c.peerURLTaken(ch.Member.ID, ch.Member.PeerURLs) {
		return ErrPeerURLExists
	}
	if ch.Kind == AddLearner && !ch.mayAddLearner(len(c.confState().Learners)) {
		return ErrTooManyLearners
	}
	return nil
}

// peerURLTaken tells whether a member other than id has one of the URLs.
func (c *cluster) peerURLTaken(id uint64, urls []string) bool {
	return slices.ContainsFunc(c.members, func(m Member) bool {
		return m.ID != id && slices.ContainsFunc(m.PeerURLs, func(u string) bool { return slices.Contains(urls, u) })
	})
}

// withMember returns the cluster with a member added or replaced.
func (c *cluster) withMember(m Member) *cluster {
	next := *c
	next.members = slices.Clone(c.members)
	if i, found := c.find(m.ID); found {
		next.members[i] = m
	} else {
		next.members = slices.Insert(next.members, i, m)
	}
	return &next
}

// withoutMember returns the cluster with a member removed for ever.
func (c *cluster) withoutMember(id uint64) *cluster {
	next := *c
	if i, found := c.find(id); found {
		next.members = slices.Delete(slices.Clone(c.members), i, i+1)
	}
	if i, found := slices.BinarySearch(c.removed, id); !found {
		next.removed = slices.Insert(slices.Clone(c.removed), i, id)
	}
	return &next
}

func (c *cluster) withVersion(v string) *cluster {
	next := *c
	next.version = v
	return &next
}

func (c *cluster) withDowngrade(target string) *cluster {
	next := *c
	next.downgrade = target
	return &next
}

// withAlarm returns the cluster with an alarm on or off; changed is false when
// it was so already.
func (c *cluster) withAlarm(a alarm, on bool) (next *cluster, changed bool) {
	i, found := slices.BinarySearchFunc(c.alarms, a, compareAlarms)
	if found == on {
		return c, false
	}
	n := *c
	if on {
		n.alarms = slices.Insert(slices.Clone(c.alarms), i, a)
	} else {
		n.alarms = slices.Delete(slices.Clone(c.alarms), i, i+1)
	}
	return &n, true
}

func (c *cluster) hasAlarm(t pb.AlarmType) bool {
	return slices.ContainsFunc(c.alarms, func(a alarm) bool { return a.kind == t })
}

// alarmMembers lists the alarms of a type; AlarmType_NONE means all.
func (c *cluster) alarmMembers(t pb.AlarmType) []*pb.AlarmMember {
	var out []*pb.AlarmMember
	for _, a := range c.alarms {
		if t == pb.AlarmType_NONE || t == a.kind {
			out = append(out, a.proto())
		}
	}
	return out
}

func (a alarm) proto() *pb.AlarmMember { return &pb.AlarmMember{MemberID: a.member, Alarm: a.kind} }

func (m Member) proto() *pb.Member {
	m = m.Clone()
	return &pb.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.Learner}
}

func (c *cluster) protoMembers() []*pb.Member {
	out := make([]*pb.Member, len(c.members))
	for i, m := range c.members {
		out[i] = m.proto()
	}
	return out
}

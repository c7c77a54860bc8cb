package replica

// Status is what a replica knows of itself and its group at one moment. It is
// a value: taking one is cheap and never waits for raft.
type Status struct {
	ClusterID, ID uint64
	// Leader is 0 while no leader is known.
	Leader, Term uint64
	// Invariant: Applied <= Committed.
	Committed, Applied uint64
	// Learner: this member has no vote.
	Learner bool
	// Pending counts this member's proposals that have no result yet.
	Pending int
	// LeaderChanges counts changes of the known leader since start.
	LeaderChanges uint64
	// Progress is the highest log index known to be stored, by member; set on
	// the leader only. Do not change it.
	Progress map[uint64]uint64
}

// IsLeader reports whether this member leads its group.
func (s Status) IsLeader() bool { return s.Leader != 0 && s.Leader == s.ID }

package host

import (
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// voter is a voting member as the leader sees it before a change.
type voter struct {
	id uint64
	// started: it has been a running member once. connected: the leader reaches
	// it now. healthy: it has for a while.
	started, connected, healthy bool
}

// checkReconfig keeps etcd's rules of strict reconfiguration: of the voters
// after a change, as many as are needed to decide must have been started, and
// must be healthy where the change could take one of them away.
func checkReconfig(kind state.MemberChangeKind, target uint64, voters []voter) error {
	n, started, healthy := len(voters), 0, 0
	var leaving *voter
	for i, v := range voters {
		if v.id == target {
			leaving = &voters[i]
		}
		if v.started {
			started++
		}
		if v.healthy {
			healthy++
		}
	}
	switch kind {
	case state.AddVoter:
		// One member alone may always grow: it has to start somewhere.
		if started < quorum(n+1) && (started != 1 || n != 1) {
			return replica.ErrNotEnoughStarted
		}
		return checkGrowth(n, healthy)
	case state.AddLearner:
		return checkGrowth(n, healthy)
	case state.Promote:
		if started+1 < quorum(n+1) { // the learner counts as started
			return replica.ErrNotEnoughStarted
		}
	case state.Remove:
		if leaving != nil {
			return checkRemoval(*leaving, n, started, healthy)
		}
	}
	return nil
}

// checkGrowth wants a quorum of healthy voters also for when the new member
// never comes.
func checkGrowth(n, healthy int) error {
	if n > 1 && healthy < quorum(n+1) {
		return replica.ErrUnhealthy
	}
	return nil
}

// checkRemoval lets a member go that is not there anyway, and else only while
// one less than the healthy voters is a quorum of those that stay.
func checkRemoval(leaving voter, n, started, healthy int) error {
	if leaving.started {
		started--
	}
	switch {
	case n > 1 && started < quorum(n-1):
		return replica.ErrNotEnoughStarted
	case !leaving.connected:
		return nil
	case healthy-1 < quorum(n-1):
		return replica.ErrUnhealthy
	}
	return nil
}

func quorum(voters int) int { return voters/2 + 1 }

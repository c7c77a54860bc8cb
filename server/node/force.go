package node

import (
	"fmt"

	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// forceNewCluster makes this member the only one, with all its data: what its
// log holds counts as committed, whether or not the others had it, and the
// others are removed for ever. The log begins anew after that. A crash on the
// way leaves a member of the old cluster, or the new one.
func (n *Node) forceNewCluster() error {
	_, self, err := n.dir.marker.ids()
	if err != nil {
		return err
	}
	if err := replica.Replay(n.log, group, n.machine, n.log.Group(group).LastIndex()); err != nil {
		return fmt.Errorf("--force-new-cluster: %w", err)
	}
	if _, ok := n.machine.Member(self); !ok {
		return exitf(ExitRemoved, "--force-new-cluster: member %x is not in its own cluster any more", self)
	}
	if err := n.forgetOthers(self); err != nil {
		return fmt.Errorf("--force-new-cluster: %w", err)
	}
	if _, err := n.machine.Flush(); err != nil {
		return fmt.Errorf("--force-new-cluster: %w", err)
	}
	index, term := n.machine.Applied()
	hard := n.log.Group(group).HardState()
	hard.Commit = &index
	err = n.log.Append([]raftlog.Write{{Group: group, Reset: &raftlog.Position{Index: index, Term: term}, HardState: hard}})
	if err != nil {
		return fmt.Errorf("--force-new-cluster: %w", err)
	}
	n.c.Logger.Warn("forced a new cluster of this member alone", "member", fmt.Sprintf("%x", self), "index", index)
	return nil
}

// forces says whether this start of a member begins a new cluster.
func (c *Config) forces(m marker) bool {
	return c.ForceNewCluster || c.ForceNewClusterOnce != "" && c.ForceNewClusterOnce != m.Forced
}

// forgetOthers applies the membership changes that lead to this member alone, as
// if they had been committed.
func (n *Node) forgetOthers(self uint64) error {
	index, term := n.machine.Applied()
	var entries []state.Entry
	change := func(kind state.MemberChangeKind, id uint64) {
		index++
		entries = append(entries, state.Entry{Index: index, Term: term, Change: &state.MemberChange{Kind: kind, Member: state.Member{ID: id}}})
	}
	if n.machine.IsLearner(self) {
		change(state.Promote, self)
	}
	for _, m := range n.machine.Members() {
		if m.ID != self {
			change(state.Remove, m.ID)
		}
	}
	out, err := n.machine.Apply(entries)
	if err != nil {
		return err
	}
	for i, e := range out.Entries {
		if e.Change.Err != nil {
			return fmt.Errorf("%s %x: %w", entries[i].Change.Kind, entries[i].Change.Member.ID, e.Change.Err)
		}
	}
	return nil
}

package host

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

const (
	// readyPercent is how far a learner must have got of the leader's log.
	readyPercent = 90
	// healthyFor is how long a member must be connected to count as healthy.
	healthyFor = 5 * time.Second
)

// ChangeMembers has the leader check, propose and apply a membership change,
// and returns the members after it, once it is applied here.
func (h *Host) ChangeMembers(ctx context.Context, c state.MemberChange) ([]state.Member, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	a, err := h.onLeader(ctx, callChange, body)
	if err != nil {
		return nil, err
	}
	// The leader has applied it; the caller's next call may come here.
	if err := h.ReadBarrier(ctx); err != nil && !h.IsRemoved(h.c.ID) {
		return nil, err
	}
	return a.Members, nil
}

// errMoved: this member led when it was asked and does not any more; nothing
// was done.
var errMoved = errors.New("host: leadership has moved")

// changeMembers runs on the leader, one change at a time. A leader that is to be
// removed hands over first: it could hold entries that nobody else has, and of
// two voters the other could then not be elected without it.
func (h *Host) changeMembers(ctx context.Context, c state.MemberChange) ([]state.Member, error) {
	h.changing.Lock()
	defer h.changing.Unlock()
	if c.Kind == state.Remove && c.Member.ID == h.c.ID {
		if err := h.HandOver(ctx); err != nil {
			return nil, err
		}
		if !h.Status().IsLeader() {
			return nil, errMoved
		}
	}
	// A leader's first round of reads ends after all earlier changes are
	// applied, so that raft does not refuse this one as a second at a time.
	if err := h.ReadBarrier(ctx); err != nil {
		return nil, err
	}
	m := h.machine.Load()
	if err := m.CheckChange(c); err != nil {
		return nil, err
	}
	if err := h.checkQuorum(m, c); err != nil {
		return nil, err
	}
	w, err := h.replica.Proposals.AddChange(c)
	if err != nil {
		return nil, err
	}
	r, err := h.await(ctx, w)
	if err != nil {
		return nil, err
	}
	if r.Change.Err != nil {
		return nil, r.Change.Err
	}
	return h.machine.Load().Members(), nil
}

// checkQuorum refuses a change that would leave, or meets, a cluster that is
// not healthy enough to carry it, by etcd's rules.
func (h *Host) checkQuorum(m *state.Machine, c state.MemberChange) error {
	if c.Kind == state.Promote {
		if err := h.checkReady(c.Member.ID); err != nil {
			return err
		}
	}
	if !h.c.StrictReconfigCheck {
		return nil
	}
	voters, started := 0, 0
	target, targetIsVoter := state.Member{}, false
	for _, v := range m.Members() {
		if v.ID == c.Member.ID {
			target, targetIsVoter = v, !v.Learner
		}
		if v.Learner {
			continue
		}
		voters++
		if v.Name != "" {
			started++
		}
	}
	switch c.Kind {
	case state.AddVoter:
		return h.checkGrow(m, started, voters)
	case state.AddLearner:
		return h.checkConnected(m)
	case state.Promote:
		if target.Name != "" {
			started++
		}
		if started < (voters+1)/2+1 {
			return replica.ErrNotEnoughStarted
		}
	case state.Remove:
		if targetIsVoter {
			return h.checkShrink(m, target, started, voters)
		}
	}
	return nil
}

func (h *Host) checkGrow(m *state.Machine, started, voters int) error {
	// One member alone may always grow: it has to start somewhere.
	if started == 1 && voters == 1 {
		return nil
	}
	if started < (voters+1)/2+1 {
		return replica.ErrNotEnoughStarted
	}
	return h.checkConnected(m)
}

func (h *Host) checkConnected(m *state.Machine) error {
	for _, v := range m.Members() {
		if !v.Learner && !h.healthy(v.ID) {
			return replica.ErrUnhealthy
		}
	}
	return nil
}

// checkShrink lets a member go that never started, and else only while those
// that stay and are healthy are a quorum.
func (h *Host) checkShrink(m *state.Machine, target state.Member, started, voters int) error {
	if target.Name == "" {
		return nil
	}
	if voters > 1 && started-1 < (voters-1)/2+1 {
		return replica.ErrNotEnoughStarted
	}
	active := 0
	for _, v := range m.Members() {
		if !v.Learner && v.ID != target.ID && h.healthy(v.ID) {
			active++
		}
	}
	if h.healthy(target.ID) && active < (voters-1)/2+1 {
		return replica.ErrUnhealthy
	}
	return nil
}

func (h *Host) healthy(id uint64) bool {
	if id == h.c.ID {
		return true
	}
	since := h.peers.Connected(id)
	return !since.IsZero() && time.Since(since) >= healthyFor
}

// checkReady refuses to promote a learner that lags.
func (h *Host) checkReady(id uint64) error {
	s := h.replica.Status()
	match, ok := s.Progress[id]
	if !ok {
		return nil // CheckChange says what is wrong with it
	}
	if match*100 < s.Progress[s.ID]*readyPercent {
		return replica.ErrLearnerNotReady
	}
	return nil
}

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
	// The leader has applied it; the caller's next call may come here. A round
	// of reads would be too much: the members after the change may be no quorum
	// yet, as when one member alone gets a second that is still to be started.
	if err := h.awaitApplied(ctx, a.Index); err != nil && !h.machine.Load().Removed(h.c.ID) {
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
func (h *Host) changeMembers(ctx context.Context, c state.MemberChange) (answer callAnswer, err error) {
	if c.Kind == state.Promote {
		defer func() { h.c.Observer.Promoted(err) }()
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	if c.Kind == state.AddLearner {
		c.MaxLearners = h.c.MaxLearners
	}
	if err := h.checkChange(ctx, c); err != nil {
		return callAnswer{}, err
	}
	if c.Kind == state.Remove && c.Member.ID == h.c.ID {
		if err := h.HandOver(ctx); err != nil {
			return callAnswer{}, err
		}
		if !h.Status().IsLeader() {
			return callAnswer{}, errMoved
		}
	}
	w, err := h.replica.Proposals.AddChange(c)
	if err != nil {
		return callAnswer{}, err
	}
	r, err := h.await(ctx, w)
	if err != nil {
		return callAnswer{}, err
	}
	if r.Change.Err != nil {
		return callAnswer{}, r.Change.Err
	}
	return callAnswer{Members: h.machine.Load().Members(), Index: r.Index}, nil
}

// checkChange judges a change by the state after all earlier ones: a leader's
// first round of reads ends when they are applied, so that raft does not refuse
// this one as a second at a time either. What the state refuses already before
// that round gets no more than an election's time for it, since without a
// quorum the round never ends, and the refusal is what the caller has to know.
func (h *Host) checkChange(ctx context.Context, c state.MemberChange) error {
	check := func() error {
		m := h.machine.Load()
		if err := m.CheckChange(c); err != nil {
			return err
		}
		return h.checkQuorum(m, c)
	}
	refusal := check()
	if refusal != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.c.TickInterval*time.Duration(h.c.ElectionTicks))
		defer cancel()
	}
	switch err := h.ReadBarrier(ctx); {
	case err != nil && refusal != nil:
		return refusal
	case err != nil:
		return err
	}
	return check()
}

// checkQuorum refuses a change that would leave, or meets, a cluster that is
// not healthy enough to carry it.
func (h *Host) checkQuorum(m *state.Machine, c state.MemberChange) error {
	if c.Kind == state.Promote {
		if err := h.checkReady(c.Member.ID); err != nil {
			return err
		}
	}
	if !h.c.StrictReconfigCheck {
		return nil
	}
	var voters []voter
	for _, v := range m.Members() {
		if !v.Learner {
			voters = append(voters, h.voter(v))
		}
	}
	return checkReconfig(c.Kind, c.Member.ID, voters)
}

func (h *Host) voter(m state.Member) voter {
	v := voter{id: m.ID, started: m.Name != ""}
	if m.ID == h.c.ID {
		v.connected, v.healthy = true, true
		return v
	}
	since := h.peers.Connected(m.ID)
	v.connected = !since.IsZero()
	v.healthy = v.connected && time.Since(since) >= healthyFor
	return v
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

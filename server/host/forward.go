package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// What only the leader can answer is forwarded to it, once: a member that is
// asked and does not lead says so, and the asker tries again when it knows the
// leader.
const (
	callRenew     = "lease/renew"
	callRemaining = "lease/remaining"
	callChange    = "members/change"
)

// callAnswer is the leader's answer to any forwarded request.
type callAnswer struct {
	// Error names one of forwardable, or is free text; empty for none.
	Error string `json:"error,omitempty"`
	// NotLeader: nothing was done.
	NotLeader bool `json:"not_leader,omitempty"`
	// Hash answers callHash.
	Hash *KeysHash `json:"hash,omitempty"`
	// TTLMillis answers callRenew and callRemaining.
	TTLMillis int64          `json:"ttl_millis,omitempty"`
	Members   []state.Member `json:"members,omitempty"`
	// Index is that of the entry that made Members what they are.
	Index uint64 `json:"index,omitempty"`
}

// forwardable are the errors that keep their identity across members.
var forwardable = []error{
	lease.ErrNotFound, state.ErrIDExists, state.ErrIDRemoved, state.ErrMemberNotFound,
	state.ErrPeerURLExists, state.ErrNotLearner, state.ErrTooManyLearners, state.ErrLastVoter,
	replica.ErrLearnerNotReady, replica.ErrUnhealthy, replica.ErrNotEnoughStarted,
	replica.ErrTimeout, replica.ErrNoLeader, replica.ErrTooManyRequests, replica.ErrStopped,
}

// onLeader runs a request here when this member leads, and else on the leader.
// While there is none it waits for one, until the context ends.
func (h *Host) onLeader(ctx context.Context, kind string, body []byte) (callAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, h.c.RequestTimeout)
	defer cancel()
	for {
		changed := h.LeaderChanged()
		a, err := h.tryLeader(ctx, kind, body)
		if err == nil && !a.NotLeader {
			return a, a.err()
		}
		select {
		case <-changed:
		case <-time.After(h.c.TickInterval):
		case <-ctx.Done():
			return callAnswer{}, h.timeoutError()
		case <-h.ctx.Done():
			return callAnswer{}, replica.ErrStopped
		}
	}
}

func (h *Host) tryLeader(ctx context.Context, kind string, body []byte) (callAnswer, error) {
	s := h.replica.Status()
	switch s.Leader {
	case 0:
		return callAnswer{NotLeader: true}, nil
	case h.c.ID:
		return h.answer(ctx, kind, body), nil
	}
	b, err := h.peers.Call(ctx, s.Leader, kind, body)
	if err != nil {
		return callAnswer{}, err
	}
	var a callAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return callAnswer{}, fmt.Errorf("answer of the leader: %w", err)
	}
	return a, nil
}

// Call answers a request of another member.
func (h *Host) Call(ctx context.Context, kind string, body []byte) ([]byte, error) {
	if kind == callHash {
		return json.Marshal(h.answerHash(body))
	}
	return json.Marshal(h.answer(ctx, kind, body))
}

func (h *Host) answer(ctx context.Context, kind string, body []byte) callAnswer {
	if !h.replica.Status().IsLeader() {
		return callAnswer{NotLeader: true}
	}
	var a callAnswer
	var err error
	switch kind {
	case callRenew, callRemaining:
		var id lease.ID
		if err = json.Unmarshal(body, &id); err == nil {
			a, err = h.answerLease(ctx, kind, id)
		}
	case callChange:
		var c state.MemberChange
		if err = json.Unmarshal(body, &c); err == nil {
			a, err = h.changeMembers(ctx, c)
		}
	default:
		err = fmt.Errorf("unknown request %q", kind)
	}
	if errors.Is(err, lease.ErrNotPrimary) || errors.Is(err, errMoved) {
		return callAnswer{NotLeader: true}
	}
	if err != nil {
		return callAnswer{Error: errorName(err)}
	}
	return a
}

func errorName(err error) string {
	for _, f := range forwardable {
		if errors.Is(err, f) {
			return f.Error()
		}
	}
	return err.Error()
}

func (a callAnswer) err() error {
	if a.Error == "" {
		return nil
	}
	for _, f := range forwardable {
		if f.Error() == a.Error {
			return f
		}
	}
	return fmt.Errorf("%w: %s", errForwarded, a.Error)
}

// answerLease runs on the leader. A round of reads first: a leader that was
// replaced without knowing it must not promise a lease more time.
func (h *Host) answerLease(ctx context.Context, kind string, id lease.ID) (callAnswer, error) {
	if err := h.ReadBarrier(ctx); err != nil {
		return callAnswer{}, err
	}
	leases := h.machine.Load().Leases()
	if kind == callRenew {
		ttl, err := leases.Renew(id, time.Now())
		return callAnswer{TTLMillis: ttl * 1000}, err
	}
	left, err := leases.Remaining(id, time.Now())
	return callAnswer{TTLMillis: left.Milliseconds()}, err
}

// RenewLease gives a lease its whole time again and returns it in seconds. The
// leader itself, whom most clients' renewals reach in the end, does without what
// forwarding takes.
func (h *Host) RenewLease(ctx context.Context, id lease.ID) (ttlSeconds int64, err error) {
	if h.replica.Status().IsLeader() {
		a, err := h.answerLease(ctx, callRenew, id)
		if !errors.Is(err, lease.ErrNotPrimary) {
			return a.TTLMillis / 1000, err
		}
	}
	a, err := h.leaseCall(ctx, callRenew, id)
	return a.TTLMillis / 1000, err
}

// LeaseRemaining is the time that a lease has left.
func (h *Host) LeaseRemaining(ctx context.Context, id lease.ID) (time.Duration, error) {
	a, err := h.leaseCall(ctx, callRemaining, id)
	return time.Duration(a.TTLMillis) * time.Millisecond, err
}

func (h *Host) leaseCall(ctx context.Context, kind string, id lease.ID) (callAnswer, error) {
	body, err := json.Marshal(id)
	if err != nil {
		return callAnswer{}, err
	}
	return h.onLeader(ctx, kind, body)
}

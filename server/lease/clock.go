package lease

import (
	"cmp"
	"slices"
	"time"
)

// retryInterval is how long an expired lease is not reported again, so that
// its revocation has the time to be committed.
const retryInterval = 3 * time.Second

// Promote starts the clocks of all leases: each lives for its TTL and the
// extension from now on. Renewals that the last primary knew of are not known
// here, which is why every lease gets its whole TTL.
func (r *Registry) Promote(now time.Time, extend time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.primary, r.promoted = true, now
	clear(r.fresh)
	r.queue.reset(len(r.leases))
	for _, e := range r.leases {
		e.deadline = now.Add(e.ttl() + max(extend, 0))
		e.at, e.reported = e.deadline, false
		r.queue.add(e)
	}
	r.queue.init()
}

// Demote stops all clocks.
func (r *Registry) Demote() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.primary = false
	clear(r.fresh)
	r.queue.reset(0)
}

// IsPrimary tells whether clocks run here.
func (r *Registry) IsPrimary() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.primary
}

// Renew gives a lease its TTL again from now on. ErrNotFound also where the
// lease has expired and only its revocation is pending: it cannot be saved any
// more.
func (r *Registry) Renew(id ID, now time.Time) (ttlSeconds int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, err := r.running(id, now)
	if err != nil {
		return 0, err
	}
	if e.left(now) == 0 {
		return 0, ErrNotFound
	}
	// A deadline never moves back: after a promotion the extension stays.
	if deadline := now.Add(e.ttl()); deadline.After(e.deadline) {
		e.deadline, e.at = deadline, deadline
		r.queue.fix(e)
	}
	r.observer.Renewed()
	return e.TTLSeconds, nil
}

// Remaining is the time until a lease expires, 0 when it has.
func (r *Registry) Remaining(id ID, now time.Time) (time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, err := r.running(id, now)
	if err != nil {
		return 0, err
	}
	return e.left(now), nil
}

// left is the time until a lease expires, 0 when it has. One that was reported
// stays expired, even on a clock that goes back: its end may be under way.
func (e *entry) left(now time.Time) time.Duration {
	if e.reported {
		return 0
	}
	return max(e.deadline.Sub(now), 0)
}

// running finds a lease and starts its clock when that has not started.
func (r *Registry) running(id ID, now time.Time) (*entry, error) {
	if !r.primary {
		return nil, ErrNotPrimary
	}
	e, ok := r.leases[id]
	if !ok {
		return nil, ErrNotFound
	}
	if _, ok := r.fresh[id]; ok {
		r.start(e, now)
	}
	return e, nil
}

func (r *Registry) start(e *entry, now time.Time) {
	delete(r.fresh, e.ID)
	e.deadline = now.Add(e.ttl())
	e.at = e.deadline
	r.queue.push(e)
}

// Expired names leases whose time is over, oldest first, at most limit. They
// stay until they are revoked and are reported again after a retry interval.
// It also starts the clocks of leases granted since the last call.
func (r *Registry) Expired(now time.Time, limit int) []ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.primary {
		return nil
	}
	for _, e := range r.fresh {
		r.start(e, now)
	}
	var due []*entry
	for len(due) < limit {
		e := r.queue.first()
		if e == nil || now.Before(e.at) {
			break
		}
		e.at, e.reported = now.Add(retryInterval), true
		r.queue.fix(e)
		due = append(due, e)
	}
	// Entries reported before are in the heap by their retry time; the order
	// within one answer is that of the deadlines.
	slices.SortFunc(due, func(a, b *entry) int {
		return cmp.Or(a.deadline.Compare(b.deadline), cmp.Compare(a.ID, b.ID))
	})
	ids := make([]ID, len(due))
	for i, e := range due {
		ids[i] = e.ID
	}
	return ids
}

// NextExpiry is the time at which Expired has something to do; false when there
// is no lease or no clock runs. A lease whose clock has not started makes it a
// time that is over already.
func (r *Registry) NextExpiry() (time.Time, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.fresh) > 0 {
		return r.promoted, true
	}
	if e := r.queue.first(); e != nil {
		return e.at, true
	}
	return time.Time{}, false
}

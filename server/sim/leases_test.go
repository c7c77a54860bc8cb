package sim

import (
	"fmt"
	"math"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/state"
)

// leases are those that the clients hold.
type leases struct {
	next  lease.ID
	known map[lease.ID]*held
}

// held is a lease as its client knows it.
type held struct {
	id  lease.ID
	ttl int64 // of virtual time
	// promised is where the clocks were when the last confirmed grant or renewal
	// began: by no member's clock may it expire before its time from then on.
	promised clocks
	// due is where the clock of each term's leader was when it first proposed the
	// end.
	due map[uint64]int64
	// revoking: the client asked to revoke it, so that it may end at any time;
	// revoked: that was acknowledged.
	revoking, revoked bool
	// ended: some member has applied its end.
	ended bool
}

// renewal is a keep-alive that waits for its round of reads.
type renewal struct {
	lease *held
	began int64
	// clocks are those at began.
	clocks clocks
	read   <-chan error
}

func leaseKey(id lease.ID, n int) string { return fmt.Sprintf("lease/%d/%d", id, n) }

func leaseOf(key string) (id lease.ID, ok bool) {
	n, err := fmt.Sscanf(key, "lease/%d/", &id)
	return id, n == 1 && err == nil
}

func (w *world) beginLeases() {
	w.leases.known = map[lease.ID]*held{}
	w.after(w.about(second), w.grant)
}

// grant takes a lease and attaches keys to it.
func (w *world) grant() {
	if w.calm {
		return
	}
	w.after(w.about(800*millisecond), w.grant)
	r := w.anyProcess()
	if r == nil {
		return
	}
	w.leases.next++
	ttl := 1 + w.rng.Int64N(4)
	h := &held{id: w.leases.next, ttl: ttl * second, promised: w.readClocks(), due: map[uint64]int64{}}
	w.leases.known[h.id] = h
	w.call(r, other(command(w, state.KindLeaseGrant, &pb.LeaseGrantRequest{ID: int64(h.id), TTL: ttl}), func(o *op) {
		if !o.known {
			return
		}
		for n := range 1 + w.rng.IntN(3) {
			if r := w.anyProcess(); r != nil {
				put := &pb.PutRequest{Key: []byte(leaseKey(h.id, n)), Value: []byte("x"), Lease: int64(h.id)}
				w.call(r, other(command(w, state.KindPut, put), nil))
			}
		}
		w.after(w.about(h.ttl/3), func() { w.keepAlive(h) })
	}))
}

// keepAlive renews a lease, revokes it, or leaves it to its fate.
func (w *world) keepAlive(h *held) {
	switch n := w.rng.IntN(10); {
	case w.calm || h.ended || n == 0:
	case n == 1:
		if r := w.anyProcess(); r != nil {
			h.revoking = true
			w.call(r, other(command(w, state.KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: int64(h.id)}), func(o *op) {
				h.revoked = o.known && o.did
			}))
		}
	default:
		if r := w.leader(); r != nil {
			read, err := r.replica.Reads.Add()
			if err != nil {
				w.failf("read: %v", err)
			}
			r.renewals = append(r.renewals, &renewal{lease: h, began: w.now, clocks: w.readClocks(), read: read})
			r.wake(raftOwner)
		}
		w.after(w.about(h.ttl/3), func() { w.keepAlive(h) })
	}
}

// leader is a member that believes that it leads, nil when none does.
func (w *world) leader() *process {
	for _, i := range w.rng.Perm(len(w.members)) {
		if r := w.members[i].process; r != nil && r.replica != nil && r.replica.Status().IsLeader() {
			return r
		}
	}
	return nil
}

// goOnRenewing is host's answerLease after its round of reads.
func (r *process) goOnRenewing() {
	r.renewals = slices.DeleteFunc(r.renewals, func(n *renewal) bool {
		select {
		case err := <-n.read:
			if err == nil {
				_, err = r.machine.Load().Leases().Renew(n.lease.id, r.m.time())
			}
			if err == nil {
				n.lease.promised = n.clocks
			}
			r.w.tracef("%d renews lease %x: %v", r.m.id, n.lease.id, err)
			return true
		default:
			return r.w.now-n.began > requestTimeout
		}
	})
}

// noteLeader is host's.
func (r *process) noteLeader() {
	s := r.replica.Status()
	if !s.IsLeader() {
		if r.primary != nil && r.w.planted != plantFollowerExpires {
			r.primary.Demote()
			r.primary = nil
		}
		return
	}
	if r.primary == nil || r.leaderTerm != s.Term {
		r.primary, r.leaderTerm = r.machine.Load().Leases(), s.Term
		if r.w.planted == plantOldClocks {
			r.primary.Promote(r.m.time().Add(-2*time.Second), 0)
			return
		}
		r.primary.Promote(r.m.time(), time.Duration(r.w.p.tick*electionTicks)*time.Microsecond)
	}
}

// expireLeases is host's.
func (r *process) expireLeases() {
	if r.primary == nil {
		return
	}
	term := r.leaderTerm
	if r.w.planted == plantFollowerExpires {
		term = r.replica.Status().Term
	}
	ids := r.primary.Expired(r.m.time(), 100)
	if len(ids) == 0 {
		return
	}
	r.w.tracef("%d expires %v in term %d", r.m.id, ids, term)
	for _, id := range ids {
		if h := r.w.leases.known[id]; h.due[term] == 0 {
			h.due[term] = r.m.clock.ran(r.w.now)
		}
	}
	if _, err := r.replica.Proposals.Add(state.LeaseExpire(term, ids)); err != nil {
		r.w.failf("propose: %v", err)
	}
}

// leaseEnded asserts that a lease ended in its time, with its keys, in one of
// the terms whose entries were applied.
func (w *world) leaseEnded(r *process, id lease.ID, terms []uint64) {
	h := w.leases.known[id]
	if h == nil {
		w.failf("lease %x was granted to nobody", id)
	}
	res, err := r.machine.Load().Range(&pb.RangeRequest{Key: []byte(fmt.Sprintf("lease/%d/", id)), RangeEnd: []byte(fmt.Sprintf("lease/%d0", id))})
	if err != nil || len(res.Kvs) > 0 {
		w.failf("member %d: lease %x ended and left %d keys, %v", r.m.id, id, len(res.GetKvs()), err)
	}
	if h.ended {
		return
	}
	h.ended = true
	if h.revoking {
		return
	}
	w.stats[expiredCount]++
	early := int64(math.MaxInt64)
	for _, t := range terms {
		if due, ok := h.due[t]; ok {
			early = min(early, h.promised[w.truth.leaders[t]]+h.ttl-due)
		}
	}
	if early == math.MaxInt64 {
		w.failf("lease %x ended on member %d in the terms %v, whose leaders did not propose it", id, r.m.id, terms)
	}
	if early > 0 {
		w.failf("lease %x ended on member %d %s before its time by the leader's clock, terms %v", id, r.m.id, time.Duration(early*1000), terms)
	}
}

// checkAttached asserts that the leases hold the keys that name them.
func (w *world) checkAttached(r *process) {
	m := r.machine.Load()
	res, err := m.Range(&pb.RangeRequest{Key: []byte("lease/"), RangeEnd: []byte("lease0")})
	if err != nil {
		w.failf("member %d: read the leased keys: %v", r.m.id, err)
	}
	attached := map[lease.ID]int{}
	for _, kv := range res.Kvs {
		id := lease.ID(kv.Lease)
		attached[id]++
		if !slices.ContainsFunc(m.Leases().Keys(id), func(k []byte) bool { return string(k) == string(kv.Key) }) {
			w.failf("member %d: lease %x does not know its key %s", r.m.id, id, kv.Key)
		}
	}
	for _, id := range m.Leases().List() {
		if keys := m.Leases().Keys(id); len(keys) != attached[id] {
			w.failf("member %d: lease %x holds %d keys, %d are there", r.m.id, id, len(keys), attached[id])
		}
	}
}

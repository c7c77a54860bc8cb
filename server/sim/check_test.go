package sim

import (
	"fmt"
	"slices"
	"time"
)

const (
	// healTime is how long the cluster has to get going when all faults are
	// over.
	healTime = 90 * second
	// checkTime ends a search for a linearization; it is counted then.
	checkTime = 3 * time.Second
)

// heal ends all faults and all load, reads every key on every member, and waits
// until nothing is left to be done.
func (w *world) heal() {
	w.tracef("all faults are over")
	w.calm = true
	clear(w.net.cut)
	for _, m := range w.members {
		m.pausedUntil = 0
		m.room = noLimit
		m.clock.set(w.now, 0, m.clock.drift)
		m.disk.FailSync(-1)
		m.disk.CrashAfter(-1)
		if m.process != nil {
			m.process.fs.killIn = -1
		}
		m.stalledUntil = 0
		m.start()
	}
	deadline := w.now + healTime
	w.runUntil(w.now+2*requestTimeout, nil)
	for w.leader() == nil && w.now < deadline {
		w.runUntil(w.now+second, nil)
	}
	for _, m := range w.members {
		if m.process == nil || !w.isMember(m.id) {
			continue
		}
		for k := range w.p.keys {
			w.call(m.process, &op{kind: opGet, reads: []int{k}})
		}
	}
	var reason string
	for w.now < deadline {
		w.runUntil(w.now+500*millisecond, nil)
		w.replaceLost()
		if reason = w.unsettled(); reason == "" {
			return
		}
	}
	w.failf("the cluster does not get going again: %s", reason)
}

func (w *world) isMember(id uint64) bool {
	return slices.Contains(w.truth.conf.Voters, id) || slices.Contains(w.truth.conf.Learners, id)
}

// unsettled says what is still to come.
func (w *world) unsettled() string {
	if w.clients.pending > 0 {
		return fmt.Sprintf("%d operations wait", w.clients.pending)
	}
	for _, m := range w.members {
		if !w.isMember(m.id) {
			continue
		}
		if m.process == nil {
			return fmt.Sprintf("member %d is down", m.id)
		}
		machine := m.process.machine.Load()
		switch applied, _ := machine.Applied(); {
		case applied != w.truth.index:
			return fmt.Sprintf("member %d is at index %d of %d", m.id, applied, w.truth.index)
		case len(m.process.tasks) > 0:
			return fmt.Sprintf("the disk of member %d has %d tasks", m.id, len(m.process.tasks))
		case machine.Leases().Len() > 0:
			return fmt.Sprintf("member %d holds the leases %v", m.id, machine.Leases().List())
		}
		if more, err := machine.Step(1); more || err != nil {
			return fmt.Sprintf("member %d compacts, %v", m.id, err)
		}
	}
	return ""
}

// check asserts what has to hold at the end.
func (w *world) check() {
	w.checkMembers()
	w.checkAcknowledged()
	for _, x := range w.watches {
		x.collect(noLimit)
		for _, m := range w.members {
			if w.isMember(m.id) {
				x.drain(m.process)
			}
		}
		if x.next <= w.truth.rev && w.truth.rev > 1 {
			w.failf("watcher of %q stays at revision %d of %d", x.prefix, x.next, w.truth.rev)
		}
	}
	w.checkHistory()
}

// checkMembers asserts that all members hold the same bytes.
func (w *world) checkMembers() {
	var first *member
	var firstHash uint32
	for _, m := range w.members {
		if !w.isMember(m.id) {
			continue
		}
		machine := m.process.machine.Load()
		hash, err := machine.Hash()
		if err != nil {
			w.failf("member %d: hash: %v", m.id, err)
		}
		w.tracef("%d ends with hash %x at revision %d", m.id, hash, machine.KV().Rev())
		w.truth.compare(m.process, w.truth.index)
		w.checkRevoked(m.process)
		if first == nil {
			first, firstHash = m, hash
		}
		if hash != firstHash {
			w.failf("member %d holds other bytes than member %d at index %d: hash %x, not %x", m.id, first.id, w.truth.index, hash, firstHash)
		}
		if rev := machine.KV().Rev(); rev != w.truth.rev {
			w.failf("member %d is at revision %d of %d", m.id, rev, w.truth.rev)
		}
	}
}

// checkAcknowledged asserts that what was acknowledged is in the log that all
// members applied.
func (w *world) checkAcknowledged() {
	for _, o := range w.clients.history {
		if !o.known || o.reading() {
			continue
		}
		if e, ok := w.truth.entries[o.index]; !ok || e.term != o.term || o.index > w.truth.index {
			w.failf("%s was acknowledged at index %d of term %d, which holds term %d", o, o.index, o.term, e.term)
		}
	}
}

// checkRevoked asserts that no member holds a lease whose revocation was
// acknowledged.
func (w *world) checkRevoked(r *process) {
	for id, h := range w.leases.known {
		if _, there := r.machine.Load().Leases().Lookup(id); h.revoked && there {
			w.failf("member %d: lease %x was revoked and goes on", r.m.id, id)
		}
	}
}

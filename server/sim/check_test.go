package sim

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// healTime is how long the cluster has to get going when all faults are
	// over.
	healTime = 90 * second
	// checkTime ends a search for a linearization; the run counts as clean then.
	checkTime = 10 * time.Second
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
		m.disk.FailSync(-1)
		m.disk.CrashAfter(-1)
		if m.process != nil {
			m.process.fs.killIn = -1
		}
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
			w.call(m.process, &op{kind: opGet, key: fmt.Sprintf("k%d", k)})
		}
	}
	var reason string
	for w.now < deadline {
		w.runUntil(w.now+500*millisecond, nil)
		if reason = w.unsettled(); reason == "" {
			return
		}
	}
	w.failf("the cluster does not get going again: %s", reason)
}

func (w *world) isMember(id uint64) bool {
	for _, v := range append(append([]uint64(nil), w.truth.conf.Voters...), w.truth.conf.Learners...) {
		if v == id {
			return true
		}
	}
	return false
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
		x.collect()
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
		w.truth.compareKeys(m.process, w.truth.index)
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
		if !o.known || o.kind == opGet {
			continue
		}
		if e, ok := w.truth.entries[o.index]; !ok || e.term != o.term || o.index > w.truth.index {
			w.failf("%s %s was acknowledged at index %d of term %d, which holds term %d", o.kind, o.key, o.index, o.term, e.term)
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

// checkHistory asks porcupine for a linearization of each key's history.
func (w *world) checkHistory() {
	byKey := map[string][]porcupine.Operation{}
	for _, o := range w.clients.history {
		ret := o.ret
		if !o.known {
			// Values are never put twice: one that no revision holds was not
			// written, and leaving it out keeps the search short.
			if o.kind == opGet || (o.kind != opDelete && !w.truth.values[o.value]) {
				continue
			}
			ret = math.MaxInt64
		}
		byKey[o.key] = append(byKey[o.key], porcupine.Operation{Input: o, Call: o.call, Output: o, Return: ret})
	}
	for k := range w.p.keys {
		key := fmt.Sprintf("k%d", k)
		if porcupine.CheckOperationsTimeout(model, byKey[key], checkTime) == porcupine.Illegal {
			w.failf("the history of %s is not linearizable", key)
		}
	}
}

// model is one key: its state is its value, empty for none.
var model = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		value, o := state.(string), input.(*op)
		switch o.kind {
		case opPut:
			return true, o.value
		case opDelete:
			return !o.known || o.did == (value != ""), ""
		case opSwap:
			if value == o.expect {
				return !o.known || o.did, o.value
			}
			return !o.known || (!o.did && o.got == value), value
		}
		return o.got == value, value
	},
}

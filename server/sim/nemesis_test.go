package sim

import (
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// nemesis does harm.
type nemesis struct {
	// rng is its own, as a client has one; count numbers its deeds.
	rng   *rand.Rand
	count int
	// killAtStart: the next start is cut off somewhere.
	killAtStart bool
}

// deed is one kind of harm.
type deed struct {
	name   string
	weight int
	do     func(w *world, r *process)
}

// deeds need a process to meet.
var deeds = []deed{
	{"power cut", 3, func(w *world, r *process) { r.crash(true) }},
	{"kill", 3, func(w *world, r *process) { r.crash(false) }},
	{"stop", 1, func(w *world, r *process) { r.stop() }},
	{"power cut at a disk operation", 4, func(w *world, r *process) { r.m.disk.CrashAfter(w.rng.IntN(25)) }},
	{"kill at a disk operation", 4, func(w *world, r *process) { r.fs.killIn = w.rng.IntN(25) }},
	{"kill at start", 2, func(w *world, r *process) { w.nemesis.killAtStart = true; r.crash(w.chance(0.5)) }},
	{"failing sync", 2, func(w *world, r *process) { r.m.disk.FailSync(w.rng.IntN(10)) }},
	{"full disk", 1, fullDisk},
	{"slow disk", 1, func(w *world, r *process) { r.m.slowUntil = w.now + w.about(2*second) }},
	{"stalling disk", 2, func(w *world, r *process) { r.m.stalledUntil = w.now + w.about(1500*millisecond) }},
	{"flipped bit", 2, rot},
	{"lost machine", 1, lose},
	{"clock jumps", 2, jump},
	{"clock stands still", 1, standStill},
	{"all power", 1, allPower},
	{"isolate", 3, isolate},
	{"split", 2, split},
	{"one way", 3, oneWay},
	{"mend", 4, func(w *world, r *process) { clear(w.net.cut) }},
	{"pause", 3, func(w *world, r *process) { r.m.pausedUntil = w.now + w.about(1500*millisecond) }},
	{"lost connection", 2, func(w *world, r *process) { r.hears(r.replica.Status().Leader) }},
	{"transfer", 3, handOver},
	{"members", 6, func(w *world, r *process) { w.changeMembers() }},
	{"compact", 3, compact},
	{"snapshot soon", 2, func(w *world, r *process) { r.wake(upkeepOwner) }},
}

// nobody is the nemesis in the list of what is left out of a run.
const nobody = -1

func (w *world) beginNemesis() {
	w.nemesis.rng = rand.New(rand.NewPCG(w.seed, 999))
	w.after(w.about(2*second), w.harm)
}

func (w *world) harm() {
	if w.calm {
		return
	}
	n := &w.nemesis
	w.after(min(int64(n.rng.ExpFloat64()*float64(w.p.interval)), 20*w.p.interval)+millisecond, w.harm)
	n.count++
	if deed, ok := w.chooseDeed(); ok && !w.left(nobody, n.count) {
		w.do(deed)
	}
}

func (w *world) chooseDeed() (deed, bool) {
	total := 0
	for _, n := range w.p.weights {
		total += n
	}
	if total == 0 {
		return deed{}, false
	}
	n := w.nemesis.rng.IntN(total)
	for i, weight := range w.p.weights {
		if n -= weight; n < 0 {
			return deeds[i], true
		}
	}
	return deed{}, false
}

func (w *world) do(d deed) {
	r := w.anyProcess()
	if w.chance(0.3) {
		if l := w.leader(); l != nil {
			r = l
		}
	}
	if r == nil {
		return
	}
	w.tracef("nemesis: %s, member %d", d.name, r.m.id)
	w.deeds = append(w.deeds, fmt.Sprintf("%s: %s, member %d", w.clock(), d.name, r.m.id))
	d.do(w, r)
}

func fullDisk(w *world, r *process) {
	m := r.m
	m.room = w.rng.IntN(20 << 10)
	w.after(w.about(3*second), func() { m.room = noLimit })
}

func allPower(w *world, _ *process) {
	for _, m := range w.members {
		if m.process != nil {
			m.process.crash(true)
		}
	}
}

func isolate(w *world, r *process) {
	for _, m := range w.members {
		w.net.cut[link{r.m.id, m.id}], w.net.cut[link{m.id, r.m.id}] = true, true
	}
}

func split(w *world, _ *process) {
	var left, right []uint64
	for _, m := range w.members {
		if w.chance(0.5) {
			left = append(left, m.id)
		} else {
			right = append(right, m.id)
		}
	}
	for _, a := range left {
		for _, b := range right {
			w.net.cut[link{a, b}], w.net.cut[link{b, a}] = true, true
		}
	}
}

// oneWay lets a member hear nobody, or nobody hear it, or cuts one direction.
func oneWay(w *world, r *process) {
	deaf, one := w.chance(0.5), w.chance(0.5)
	for _, m := range w.members {
		if one && w.chance(0.5) {
			continue
		}
		if deaf {
			w.net.cut[link{m.id, r.m.id}] = true
		} else {
			w.net.cut[link{r.m.id, m.id}] = true
		}
	}
}

func handOver(w *world, _ *process) {
	r := w.leader()
	if r == nil {
		return
	}
	voters := r.machine.Load().ConfState().Voters
	to := voters[w.rng.IntN(len(voters))]
	r.later(func(p *replica.Replica) error { p.TransferLeader(to); return nil })
}

func compact(w *world, r *process) {
	rev := r.machine.Load().KV().Rev() - w.rng.Int64N(20)
	if rev < 1 {
		return
	}
	w.call(r, other(command(w, state.KindCompact, &pb.CompactionRequest{Revision: rev}), func(o *op) {
		if o.known && o.did {
			w.stats[compactionsCount]++
		}
	}))
}

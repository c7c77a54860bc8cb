package sim

import "time"

// clock is a member's monotonic clock, which is not the world's: it runs a bit
// fast or slow, it stands still for a while, and it jumps. A restart of the
// process does not change it.
type clock struct {
	// since is when, in the world's time, the clock showed shown and began to
	// run at rate.
	since, shown int64
	rate         float64
	// leapt is the sum of the jumps back.
	leapt int64
	// drift is the rate when nothing is wrong with it.
	drift float64
}

func (w *world) newClock() clock {
	c := clock{since: w.now, shown: w.between(0, 1000*second), drift: 1}
	if w.p.drift > 0 {
		c.drift = 1 + w.p.drift*(2*w.rng.Float64()-1)
	}
	c.rate = c.drift
	return c
}

func (c *clock) at(now int64) int64 { return c.shown + int64(float64(now-c.since)*c.rate) }

// ran is how far it ever went forth. No two readings differ by more than the
// difference of this, so that it bounds what a process can hold for elapsed.
func (c *clock) ran(now int64) int64 { return c.at(now) + c.leapt }

// set lets the clock jump, and run at another rate from then on.
func (c *clock) set(now, jump int64, rate float64) {
	c.since, c.shown, c.rate = now, c.at(now)+jump, rate
	c.leapt += max(-jump, 0)
}

// time is what the member's process gets from time.Now.
func (m *member) time() time.Time {
	return time.Unix(1_000_000, 0).Add(time.Duration(m.clock.at(m.w.now) * 1000))
}

// untilTick is how long a tick of the process takes in the world's time.
func (m *member) untilTick() int64 {
	if m.clock.rate <= 0 {
		return m.w.p.tick // look again then
	}
	return int64(float64(m.w.p.tick) / m.clock.rate)
}

// clocks are how far all members' clocks had run at one moment, by ID.
type clocks map[uint64]int64

func (w *world) readClocks() clocks {
	c := clocks{}
	for _, m := range w.members {
		c[m.id] = m.clock.ran(w.now)
	}
	return c
}

// jump moves a clock forth or back.
func jump(w *world, r *process) {
	by := w.about(2 * second)
	if w.chance(0.5) {
		by = -by
	}
	r.m.clock.set(w.now, by, r.m.clock.rate)
	w.tracef("clock of %d jumps by %s", r.m.id, time.Duration(by*1000))
}

// standStill stops a clock for a while.
func standStill(w *world, r *process) {
	m := r.m
	m.clock.set(w.now, 0, 0)
	w.after(w.about(2*second), func() { m.clock.set(w.now, 0, m.clock.drift) })
}

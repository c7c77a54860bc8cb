package host

import (
	"sync/atomic"
	"time"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/state"
)

// Observer is told how long the host's work takes. Its methods run concurrently,
// and the goroutine that does the work waits for them.
type Observer interface {
	// Applied: a run of committed entries was applied and published.
	Applied(took time.Duration)
	// Swept: a step of a compaction held up applying, and removed so many rows.
	Swept(pause time.Duration, rows uint64)
	// SweepEnded: the last row of a compaction is gone.
	SweepEnded(took time.Duration)
	// Flushed: the state was made durable, in the time of sync, and the log
	// shortened.
	Flushed(sync, total time.Duration)
	// SnapshotStored: a received snapshot was made durable, in the time of sync
	// after its last row.
	SnapshotStored(sync, total time.Duration)
	// Promoted: this member, as leader, promoted a learner, or why it did not.
	Promoted(err error)
}

type unobserved struct{}

func (unobserved) Applied(time.Duration)                       {}
func (unobserved) Swept(time.Duration, uint64)                 {}
func (unobserved) SweepEnded(time.Duration)                    {}
func (unobserved) Flushed(time.Duration, time.Duration)        {}
func (unobserved) SnapshotStored(time.Duration, time.Duration) {}
func (unobserved) Promoted(error)                              {}

// Counts are what happened here since the start.
type Counts struct {
	// SlowApplies took longer than WarnApplyAfter.
	SlowApplies uint64
	// LateHeartbeats are those that this member, as leader, sent too late.
	LateHeartbeats uint64
	// ExpiredLeases are those that this member, as leader, saw expire.
	ExpiredLeases uint64
	// SlowReads are the rounds of linearizable reads that had to be asked again,
	// FailedReads the reads that got no answer.
	SlowReads, FailedReads uint64
	// Installing: a received snapshot is replacing the state just now.
	Installing bool
}

// counters are what Counts reads.
type counters struct {
	slowApplies, lateHeartbeats, expiredLeases, failedReads atomic.Uint64
	installing                                              atomic.Bool
}

// Counts tells what happened so far.
func (h *Host) Counts() Counts {
	return Counts{
		SlowApplies: h.counters.slowApplies.Load(), LateHeartbeats: h.counters.lateHeartbeats.Load(),
		ExpiredLeases: h.counters.expiredLeases.Load(), FailedReads: h.counters.failedReads.Load(),
		SlowReads: h.replica.Reads.Slow(), Installing: h.counters.installing.Load(),
	}
}

// lateness tells heartbeats that a leader sends too late: the disk, or too few
// cores, keep its goroutine. Owned by the raft goroutine.
type lateness struct {
	interval time.Duration
	last     time.Time
}

// late is called at each tick, which is when heartbeats leave. Ticks of a
// follower count for nothing.
func (l *lateness) late(now time.Time, leads bool) (by time.Duration, late bool) {
	since := now.Sub(l.last)
	first := l.last.IsZero()
	l.last = now
	if !leads {
		l.last = time.Time{}
		return 0, false
	}
	return since - l.interval, !first && since > 2*l.interval
}

// sweepClock times compactions by their steps. Owned by the apply goroutine.
type sweepClock struct {
	o     Observer
	begun time.Time
}

// step is told of each step: when it began, whether the compaction goes on, and
// what was swept before and after it.
func (c *sweepClock) step(begin time.Time, more bool, before, after state.Swept) {
	if c.begun.IsZero() {
		c.begun = begin
	}
	if rows := after.Rows - before.Rows; rows > 0 {
		c.o.Swept(time.Since(begin), rows)
	}
	if after.Sweeps > before.Sweeps {
		c.o.SweepEnded(time.Since(c.begun))
		c.begun = begin
	}
	if !more {
		c.begun = time.Time{}
	}
}

// timedFlush is an engine that tells how long its last Flush took.
type timedFlush struct {
	engine.Engine
	took time.Duration
}

func (t *timedFlush) Flush() error {
	begin := time.Now()
	err := t.Engine.Flush()
	t.took = time.Since(begin)
	return err
}

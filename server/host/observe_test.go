package host

import (
	"context"
	"slices"
	"testing"
	"time"

	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/state"
)

// A heartbeat is late when two intervals passed since the last one, while this
// member led.
func TestLateHeartbeats(t *testing.T) {
	const interval = 100 * time.Millisecond
	l := lateness{interval: interval}
	now := time.Unix(1000, 0)
	for i, c := range []struct {
		after time.Duration
		leads bool
		by    time.Duration
		late  bool
	}{
		{interval, true, 0, false}, // the first has no one before it
		{interval, true, 0, false},
		{2 * interval, true, interval, false},
		{3 * interval, true, 2 * interval, true},
		{9 * interval, false, 0, false},
		{9 * interval, true, 0, false}, // the first as leader again
		{5 * interval, true, 4 * interval, true},
	} {
		now = now.Add(c.after)
		by, late := l.late(now, c.leads)
		if late != c.late || (late && by != c.by) {
			t.Errorf("tick %d: got late %v by %s, want %v by %s", i, late, by, c.late, c.by)
		}
	}
}

// sweepDiary writes down the steps of compactions.
type sweepDiary struct {
	unobserved
	rows  []uint64
	ended int
}

func (d *sweepDiary) Swept(_ time.Duration, rows uint64) { d.rows = append(d.rows, rows) }
func (d *sweepDiary) SweepEnded(took time.Duration) {
	if took >= 0 {
		d.ended++
	}
}

// Steps that remove nothing are no pauses, and a compaction ends once.
func TestSweepClock(t *testing.T) {
	d := &sweepDiary{}
	c := sweepClock{o: d}
	var before state.Swept
	for _, step := range []struct {
		more         bool
		sweeps, rows uint64
	}{{true, 0, 0}, {true, 0, 3}, {true, 0, 0}, {false, 1, 2}, {false, 0, 0}, {false, 1, 0}} {
		after := state.Swept{Sweeps: before.Sweeps + step.sweeps, Rows: before.Rows + step.rows}
		c.step(time.Now(), step.more, before, after)
		before = after
	}
	if !slices.Equal(d.rows, []uint64{3, 2}) || d.ended != 2 || !c.begun.IsZero() {
		t.Errorf("got rows %v, %d compactions, begun at %v; want [3 2], 2 and none under way", d.rows, d.ended, c.begun)
	}
}

// A read that nobody waits for any more has failed.
func TestFailedReads(t *testing.T) {
	h := newHost(t, memdisk.New(1), 1, 1, 2) // without the other there is no leader
	h.Start(&nobody{}, nil)
	t.Cleanup(h.Close)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.ReadBarrier(ctx); err == nil {
		t.Fatal("it was read")
	}
	if n := h.Counts().FailedReads; n != 1 {
		t.Errorf("%d reads failed, want 1", n)
	}
}

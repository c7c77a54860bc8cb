package main

import (
	"slices"
	"testing"
	"time"
)

// freeze stalls every write to the volume, and every sync, until thaw, as a disk
// does that does not answer. A process that waits for it cannot even be killed.
func (v *volume) freeze() {
	v.t.Helper()
	do(v.t, "fsfreeze", "--freeze", v.mount)
	v.frozen = true
}

func (v *volume) thaw() {
	v.t.Helper()
	if v.frozen {
		v.frozen = false
		do(v.t, "fsfreeze", "--unfreeze", v.mount)
	}
}

// How disks are slow: one stands still for longer than an election takes, or for
// stuck out of each stuck + free.
const (
	still = time.Second
	stuck = 150 * time.Millisecond
	free  = 50 * time.Millisecond
	// fits is how often.
	fits = 5
)

// A disk that stands still, or is slow, stops nobody but its member, be it a
// follower or the leader: the others' clients go on at once or when the leader's
// disk does, nothing is answered that was not stored, and afterwards all go on.
func TestFaultsSlowDisk(t *testing.T) {
	needRoot(t, "fsfreeze")
	eachEngine(t, func(t *testing.T, engine string) {
		members := newCluster(t, engine, 3, faultFlags...)
		volumes := onVolumes(t, members, 256)
		for _, v := range volumes {
			t.Cleanup(v.thaw) // before the members are killed
		}
		startAll(members)
		h := startHistoryAtEach(t, 2, members...)
		h.patience.Store(int64(2 * time.Second))
		h.progressAt(20, members...)
		t.Logf("%s: %s with good disks", engine, h.pace(members...))
		for _, who := range []string{"a follower", "the leader"} {
			for range max(1, *faultCycles/50) {
				m := leader(t, members)
				if who == "a follower" {
					m = others(members, m)[0]
				}
				testSlowDisk(t, h, members, m, volumes[slices.Index(members, m)], who)
			}
		}
		h.verify(members...)
		checkHashes(t, members)
	})
}

func testSlowDisk(t *testing.T, h *history, members []*member, m *member, v *volume, who string) {
	rest := others(members, m)
	v.freeze()
	began := time.Now()
	t.Logf("%s is %s", m.name, who)
	time.Sleep(still)
	h.progressAt(50, rest...)
	t.Logf("the disk of %s stands still for %s: elsewhere %s, at it %s; then %s leads",
		m.name, time.Since(began).Round(time.Millisecond), h.pace(rest...), h.pace(m), leader(t, members).name)
	v.thaw()
	h.next()
	h.progressAt(20, members...)
	for range fits {
		v.freeze()
		time.Sleep(stuck)
		v.thaw()
		time.Sleep(free)
	}
	t.Logf("the disk of %s stands still for %s of each %s: elsewhere %s, at it %s", who, stuck, stuck+free, h.pace(rest...), h.pace(m))
	h.next()
	h.progressAt(20, members...)
}

package main

import (
	"flag"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"
)

// How much of the faults a run sees: little by default, all of it by make
// faults.
var (
	faultCycles    = flag.Int("faults.cycles", 4, "kill -9 cycles on each engine; a tenth of it are power cuts")
	faultEngine    = flag.String("faults.engine", "", "the one engine to test; all of this build when not given")
	faultRevisions = flag.Int("faults.revisions", 5000, "revisions that a member is down for")
)

// faultFlags have snapshots and compactions of the log come often.
var faultFlags = []string{"--snapshot-count=200", "--snapshot-catchup-entries=100", "--log-level=warn", "--heartbeat-interval=50", "--election-timeout=500"}

// startAll starts what does not run and waits until it serves.
func startAll(members []*member) {
	for _, m := range members {
		if !m.running() {
			m.start()
		}
	}
	for _, m := range members {
		m.waitServing()
	}
}

// TestFaultsKill kills one member, a majority or all, over and over, while
// clients work: every answer has to fit one order of all calls, and at the end
// every member holds the same.
func TestFaultsKill(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		members := newCluster(t, engine, 3, faultFlags...)
		startAll(members)
		h := startHistory(t, 8, members...)
		began, kills := time.Now(), 0
		for cycle := range *faultCycles {
			h.progress(30)
			kills += killSome(members, cycle)
			startAll(members)
			h.next()
			if cycle%50 == 49 {
				t.Logf("%d cycles, %d kills, %d calls answered, %d of unknown outcome, %s", cycle+1, kills, h.acked.Load(), h.unknown.Load(), time.Since(began).Round(time.Second))
			}
			if h.broken() {
				break
			}
		}
		h.progress(30)
		h.verify(members...)
		checkHashes(t, members)
		t.Logf("%s: %d cycles, %d kills, %d calls answered, %d of unknown outcome, none lost, in %s",
			engine, *faultCycles, kills, h.acked.Load(), h.unknown.Load(), time.Since(began).Round(time.Second))
	})
}

// killSome kills a random member, every fourth time two, every eighth all.
func killSome(members []*member, cycle int) int {
	n := 1
	switch cycle % 8 {
	case 3:
		n = 2
	case 7:
		n = len(members)
	}
	some := slices.Clone(members)
	rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	for _, m := range some[:n] {
		m.signal(syscall.SIGKILL) // all of them before the first is waited for
	}
	for _, m := range some[:n] {
		m.kill()
	}
	return n
}

// broken tells whether a history was found wrong already.
func (h *history) broken() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed != nil
}

// Five members lose any two at a time, by kill -9 and by SIGSTOP, without
// a client that hears something wrong.
func TestFaultsFiveMembers(t *testing.T) {
	engine := engines()[0]
	members := newCluster(t, engine, 5, faultFlags...)
	startAll(members)
	h := startHistory(t, 8, members...)
	h.patience.Store(int64(2 * time.Second))
	for cycle := range max(1, *faultCycles/8) {
		pair := rand.Perm(len(members))[:2]
		killed, stopped := members[pair[0]], members[pair[1]]
		if cycle%2 == 0 {
			stopped = leader(t, members)
			for killed == stopped {
				killed = members[rand.IntN(len(members))]
			}
		}
		killed.signal(syscall.SIGKILL)
		killed.kill()
		stopped.signal(syscall.SIGSTOP)
		h.progress(50)
		stopped.signal(syscall.SIGCONT)
		startAll(members)
		h.next()
	}
	h.progress(50)
	h.verify(members...)
	checkHashes(t, members)
}

// A leader that is paused for longer than an election answers no read from its
// past when it goes on.
func TestFaultsPausedLeader(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		members := newCluster(t, engine, 3, faultFlags...)
		startAll(members)
		h := startHistory(t, 6, members...)
		h.patience.Store(int64(2 * time.Second))
		for range max(1, *faultCycles/16) {
			old := leader(t, members)
			old.signal(syscall.SIGSTOP)
			leader(t, others(members, old))
			h.progress(30)
			// What it is asked first, it is asked before it has heard of its successor.
			h.next()
			old.signal(syscall.SIGCONT)
			h.progress(30)
			startAll(members)
		}
		h.verify(members...)
		checkHashes(t, members)
	})
}

// others are the members but one.
func others(members []*member, but *member) []*member {
	return slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return m == but })
}

// clientPatience is how long a single call of a test may take.
const clientPatience = 30 * time.Second

package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// troubled is a cluster whose network tests spoil, and the clients that work at
// each of its members.
type troubled struct {
	*testing.T
	members []*member
	links   *links
	h       *history
}

// eachNetwork runs a test over relays, which need no privilege, and over packets,
// which do.
func eachNetwork(t *testing.T, n int, flags []string, test func(c *troubled)) {
	networks := map[string]func(*testing.T, []*member) *links{"relays": throughRelays, "packets": throughPackets}
	for _, name := range []string{"relays", "packets"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			c := &troubled{T: t, members: newCluster(t, engines()[0], n, flags...)}
			c.links = networks[name](t, c.members)
			startAll(c.members)
			c.h = startHistoryAtEach(t, 2, c.members...)
			// A call that nobody answers costs a client this time, and no more:
			// after it, it goes on to read, at the member that was cut off too.
			c.h.patience.Store(int64(time.Second))
			c.h.progressAt(5, c.members...)
			test(c)
			c.h.verify(c.members...)
			checkHashes(t, c.members)
		})
	}
}

func (c *troubled) spoil(bad link, which func(from, to int) bool) {
	c.links.spoil(len(c.members), bad, which)
}

func (c *troubled) place(m *member) int { return slices.Index(c.members, m) }

// heal makes all links good and waits until every member answers its clients.
func (c *troubled) heal(after string) {
	c.Helper()
	c.links.heal()
	began := time.Now()
	c.h.next()
	c.h.progressAt(10, c.members...)
	c.Logf("%s: every member answers %s after the end", after, time.Since(began).Round(time.Millisecond))
}

// silent wants nothing answered at members while the others go on.
func (c *troubled) silent(members, rest []*member) {
	c.Helper()
	var before []int64
	for _, m := range members {
		before = append(before, c.h.doors[m].answered.Load())
	}
	c.h.next()
	c.h.progressAt(20, rest...)
	for i, m := range members {
		if n := c.h.doors[m].answered.Load() - before[i]; n > 0 {
			c.Errorf("%s is cut off from a majority and answered %d calls", m.name, n)
		}
	}
}

// partitionRounds is how often each partition comes.
func partitionRounds() int { return max(1, *faultCycles/50) }

var cut = link{cut: true}

// A leader that is cut off from the others answers nothing, and they go on
// without it.
func (c *troubled) isolateLeader() {
	old := leader(c.T, c.members)
	rest := others(c.members, old)
	c.spoil(cut, of(c.place(old)))
	leader(c.T, rest)
	c.silent([]*member{old}, rest)
	c.heal("leader isolated")
}

// A leader that is not heard, or does not hear, does not lead for long.
func (c *troubled) halfIsolateLeader() {
	for name, half := range map[string]func(int) func(int, int) bool{"leader mute": mute, "leader deaf": deaf} {
		old := leader(c.T, c.members)
		rest := others(c.members, old)
		c.spoil(cut, half(c.place(old)))
		leader(c.T, rest)
		c.h.next()
		c.h.progressAt(20, rest...)
		c.heal(name)
	}
}

// A leader and one follower do not reach each other: the third member, and who
// asks it, goes on.
func (c *troubled) cutOnePair() {
	old := leader(c.T, c.members)
	rest := others(c.members, old)
	c.spoil(cut, apart(c.place(old), c.place(rest[0])))
	c.h.progressAt(20, rest[1:]...)
	c.heal("leader and one follower apart")
}

// Any links fail, and others a moment later: nobody needs to go on meanwhile.
func (c *troubled) cutAtRandom() {
	for range 4 {
		c.spoil(cut, chance(0.4))
		c.hold(300*time.Millisecond + rand.N(700*time.Millisecond))
		c.h.next()
	}
	c.heal("random links cut")
}

// All links of a member come and go, by resets and by silence.
func (c *troubled) flap() {
	m := leader(c.T, c.members)
	for i := range 10 {
		bad := link{reset: true}
		if i%4 == 0 {
			bad = cut
		}
		c.spoil(bad, of(c.place(m)))
		c.hold(50*time.Millisecond + rand.N(200*time.Millisecond))
		c.links.heal()
		c.hold(rand.N(200 * time.Millisecond))
	}
	c.heal("links of a member flapping")
}

// hold is how long a fault lasts that has no end to wait for.
func (c *troubled) hold(d time.Duration) { time.Sleep(d) }

// Three members are parted in every way, while clients ask all of them.
func TestFaultsPartition(t *testing.T) {
	eachNetwork(t, 3, faultFlags, func(c *troubled) {
		for range partitionRounds() {
			c.isolateLeader()
			c.halfIsolateLeader()
			c.cutOnePair()
			c.cutAtRandom()
			c.flap()
		}
	})
}

// Five members fall into a majority and a minority that holds the leader.
func TestFaultsSplit(t *testing.T) {
	eachNetwork(t, 5, faultFlags, func(c *troubled) {
		for range partitionRounds() {
			old := leader(c.T, c.members)
			rest := others(c.members, old)
			rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
			few, many := []*member{old, rest[0]}, rest[1:]
			c.spoil(cut, parted(map[int]bool{c.place(few[0]): true, c.place(few[1]): true}))
			leader(c.T, many)
			c.silent(few, many)
			c.heal("two of five parted")
			c.isolateLeader()
			c.cutAtRandom()
		}
	})
}

// Members 100 ms apart, with losses, answer slowly and rightly.
func TestFaultsSlowNetwork(t *testing.T) {
	flags := append(slices.Clone(faultFlags[:3]), "--heartbeat-interval=200", "--election-timeout=2000")
	eachNetwork(t, 3, flags, func(c *troubled) {
		c.h.patience.Store(int64(10 * time.Second))
		c.h.pace(c.members...)
		bad := link{delay: 100 * time.Millisecond, jitter: 20 * time.Millisecond, lost: 0.02, twice: 0.02, late: 0.1}
		c.spoil(bad, all)
		for range partitionRounds() {
			c.h.progressAt(8, c.members...)
			c.h.next()
		}
		c.Logf("100 to 120 ms apart, 2%% lost: %s", c.h.pace(c.members...))
		c.heal("slow network")
	})
}

package main

import (
	"math/rand/v2"
	"sync"
	"time"
)

// link is the way from one member to another, one direction of it.
type link struct {
	// cut lets nothing through. On a relay it waits, as what TCP sends again
	// does; a packet is lost.
	cut bool
	// reset ends connections that say something (relays only).
	reset         bool
	delay, jitter time.Duration
	// Shares of packets that are lost, come twice, and come late. A relay, which
	// carries streams, lets a piece wait instead, and all that is behind it.
	lost, twice, late float64
}

const (
	// resent is how long a lost piece of a stream takes to be sent again.
	resent = 200 * time.Millisecond
	// lateness is by how much a late packet is overtaken.
	lateness = 20 * time.Millisecond
)

// latency draws how long the way takes this time.
func (l link) latency() time.Duration {
	d := l.delay
	if l.jitter > 0 {
		d += rand.N(l.jitter)
	}
	return d
}

// links are the ways between the members by their places; the zero link is a
// good one. Clients do not go over them.
type links struct {
	mu sync.Mutex
	// ways and changed are guarded by mu; changed is closed at each change.
	ways    map[[2]int]link
	changed chan struct{}
}

func newLinks() *links { return &links{ways: map[[2]int]link{}, changed: make(chan struct{})} }

// between is the link of the moment; changed is closed when it is another one.
func (l *links) between(from, to int) (now link, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ways[[2]int{from, to}], l.changed
}

// spoil makes links of n members bad, and all others good.
func (l *links) spoil(n int, bad link, which func(from, to int) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.ways)
	for from := range n {
		for to := range n {
			if from != to && which(from, to) {
				l.ways[[2]int{from, to}] = bad
			}
		}
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *links) heal() {
	l.spoil(0, link{}, nil)
}

// Which links are bad.

func all(int, int) bool { return true }

// of are all links of a member, in both directions.
func of(m int) func(from, to int) bool {
	return func(from, to int) bool { return from == m || to == m }
}

// mute is a member that hears and is not heard, deaf the other way round.
func mute(m int) func(from, to int) bool { return func(from, _ int) bool { return from == m } }
func deaf(m int) func(from, to int) bool { return func(_, to int) bool { return to == m } }

// apart are two members that do not reach each other.
func apart(a, b int) func(from, to int) bool {
	return func(from, to int) bool { return from == a && to == b || from == b && to == a }
}

// parted keeps some members from the others.
func parted(some map[int]bool) func(from, to int) bool {
	return func(from, to int) bool { return some[from] != some[to] }
}

// chance draws each link anew.
func chance(share float64) func(from, to int) bool {
	return func(int, int) bool { return rand.Float64() < share }
}

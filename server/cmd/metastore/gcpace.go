package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// leastGoalBytes is what a heap may grow to before it is collected, however
	// little of it lives: at 10 MB alive every 10 MB of requests would pay for a
	// collection.
	leastGoalBytes = 64 << 20
	// leastGoalShare of the heap's limit is the most of it.
	leastGoalShare = 8
	// largeHeapBytes is from where on a heap grows by no more than that between
	// collections, but by leastGCPercent. What makes it large, the index and the
	// memory engine's rows, holds no pointers: a collection costs little, and were
	// the heap to double, the process would take twice what it keeps.
	largeHeapBytes = 64 << 20
	leastGCPercent = 10
	// defaultGCPercent is Go's own; GOGC in the environment overrules all of this.
	defaultGCPercent = 100
)

// paceGC lets a small heap grow to a size that is worth a collection, and a large
// one not by as much again. It looks again after each one, until stop.
func paceGC(limitBytes int64) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	goal := int64(leastGoalBytes)
	if limitBytes > 0 {
		goal = min(goal, limitBytes/leastGoalShare)
	}
	p := &gcPacer{goalBytes: goal, percent: defaultGCPercent, stopped: make(chan struct{})}
	p.again()
	return func() { close(p.stopped) }
}

// gcPacer sets the percentage that the heap may grow by.
type gcPacer struct {
	goalBytes int64
	percent   int
	stopped   chan struct{}
}

// afterGC dies in each collection, which is how that is noticed.
type afterGC struct{ _ [16]byte }

// again adjusts now and after the next collection. Finalizers run one by one.
func (p *gcPacer) again() {
	select {
	case <-p.stopped:
		return
	default:
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if percent := gcPercent(int64(live[0].Value.Uint64()), p.goalBytes); percent != p.percent {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
	runtime.SetFinalizer(&afterGC{}, func(*afterGC) { p.again() })
}

// gcPercent is by how much a heap with so many bytes alive may grow. It is in
// steps, since a change stops the world for a moment.
func gcPercent(liveBytes, goalBytes int64) int {
	live := max(liveBytes, 4<<20)
	if live > largeHeapBytes {
		return max(leastGCPercent, int(largeHeapBytes*100/live)/5*5)
	}
	return max(defaultGCPercent, int((goalBytes-live)*100/live)/25*25)
}

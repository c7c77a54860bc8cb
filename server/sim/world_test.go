package sim

import (
	"container/heap"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"
)

// Virtual time is in microseconds since the world began.
const (
	millisecond = int64(1000)
	second      = 1000 * millisecond
)

// world is one seed's run. Everything in it belongs to the one goroutine of
// run.
type world struct {
	seed    uint64
	rng     *rand.Rand
	p       profile
	planted planted
	// leave has what is left out, to find what a failure needs.
	leave map[part]bool
	// deeds are those of the nemesis, as text.
	deeds []string

	now   int64
	queue events
	seq   uint64
	// order counts calls and returns of operations: a clock without ties.
	order int64

	trace hash.Hash64
	// verbose gets every line of the trace; nil for none.
	verbose io.Writer

	net     network
	members []*member // by ID, ascending
	truth   truth
	clients clients
	leases  leases
	watches []*watcher
	nemesis nemesis
	// calm: faults and load are over, the cluster has to get going.
	calm  bool
	stats stats
	parts []part
}

// stats tell that a run did what it is for: how often each of these happened.
type stats [counts]int

const (
	ackedCount = iota
	unknownCount
	readsCount
	watchedCount
	crashesCount
	leadersCount
	snapshotsCount
	changesCount
	lostCount
	compactionsCount
	expiredCount
	flipsCount
	detectedCount
	undecidedCount
	imagesCount
	counts
)

var countNames = [counts]string{
	"writes acknowledged", "unknown", "reads", "events watched", "crashes", "elections", "snapshots",
	"member changes", "members lost", "compactions", "leases expired", "bits flipped", "of them detected", "histories undecided", "starts with an image",
}

func (s *stats) add(o stats) {
	for i := range s {
		s[i] += o[i]
	}
}

func (s stats) String() string {
	var text []string
	for i, n := range s {
		text = append(text, fmt.Sprintf("%d %s", n, countNames[i]))
	}
	return strings.Join(text, ", ")
}

// failure is a broken promise; it unwinds the run.
type failure struct {
	// kind is the same for failures of the same promise.
	kind, text string
}

func (w *world) failf(format string, args ...any) {
	panic(failure{format, fmt.Sprintf("at %s: %s", w.clock(), fmt.Sprintf(format, args...))})
}

func (w *world) clock() string { return time.Duration(w.now * 1000).String() }

func (w *world) tracef(format string, args ...any) {
	fmt.Fprintf(w.trace, "%d ", w.now)
	fmt.Fprintf(w.trace, format, args...)
	if w.verbose != nil {
		fmt.Fprintf(w.verbose, "%12s  %s\n", w.clock(), fmt.Sprintf(format, args...))
	}
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// between is a time from low up to high.
func (w *world) between(low, high int64) int64 {
	if high <= low {
		return low
	}
	return low + w.rng.Int64N(high-low)
}

// about is a time with this mean and a long tail.
func (w *world) about(mean int64) int64 {
	return min(int64(w.rng.ExpFloat64()*float64(mean)), 20*mean)
}

func (w *world) stamp() int64 {
	w.order++
	return w.order
}

// event is something that will happen.
type event struct {
	at  int64
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || (e[i].at == e[j].at && e[i].seq < e[j].seq)
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}

func (w *world) after(delay int64, do func()) {
	w.seq++
	heap.Push(&w.queue, event{at: w.now + max(delay, 0), seq: w.seq, do: do})
}

// runUntil lets events happen until done says so or the time is over.
func (w *world) runUntil(deadline int64, done func() bool) bool {
	for {
		if done != nil && done() {
			return true
		}
		if len(w.queue) == 0 || w.queue[0].at > deadline {
			w.now = max(w.now, deadline)
			return false
		}
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
}

// outcome is what a run gives.
type outcome struct {
	seed  uint64
	trace uint64
	stats stats
	// failure is empty for a clean run; kind is its failure.kind.
	failure, kind string
	// parts are what can be left out; deeds those of the nemesis that were done.
	parts []part
	deeds []string
}

// run runs one seed. The caller has made crypto/rand deterministic, from which
// raft draws its election time-outs.
func run(seed uint64, fault planted, leave map[part]bool, verbose io.Writer) (out outcome) {
	w := &world{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 0x73696d)), planted: fault,
		trace: fnv.New64a(), verbose: verbose, leave: leave,
	}
	out.seed = seed
	defer func() {
		out.trace, out.stats, out.parts, out.deeds = w.trace.Sum64(), w.stats, w.parts, w.deeds
		switch p := recover().(type) {
		case nil:
		case failure:
			out.failure, out.kind = p.text, p.kind
		default:
			out.failure, out.kind = fmt.Sprintf("at %s: panic: %v\n%s", w.clock(), p, debug.Stack()), "panic"
		}
		w.endAll()
	}()
	w.p = newProfile(w)
	w.begin()
	w.runUntil(w.p.duration, nil)
	w.heal()
	w.check()
	return out
}

// endAll ends the coroutines that are left.
func (w *world) endAll() {
	for _, m := range w.members {
		if r := m.process; r != nil {
			m.process = nil
			r.fs.dead, r.fs.task = errKilled, nil
			r.endTasks()
		}
	}
}

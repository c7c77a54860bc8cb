package sim

// profile is what kind of world a seed gives. Each seed leaves out some faults
// altogether, so that others are met alone too.
type profile struct {
	voters int
	txns   bool // transactions on several keys
	// drift is how far clocks' rates may be off.
	drift    float64
	duration int64
	tick     int64
	preVote  bool

	clients, keys, watchers int
	// pause is the mean time between two operations of a client.
	pause int64

	// delay is the mean time of a message on the way, sync that of an append.
	delay, sync  int64
	drop, double float64
	// late is the share of messages that take ten times as long or more.
	late float64

	snapshotEntries, catchUpEntries uint64
	segmentBytes, cacheBytes        int64
	outboxEvents, replayBytes       int
	compactRows                     int

	// interval is the mean time between two deeds of the nemesis; deeds are
	// those that it does, by weight.
	interval int64
	weights  []int
}

const electionTicks = 10

func newProfile(w *world) profile {
	pick := func(values ...int) int { return values[w.rng.IntN(len(values))] }
	p := profile{
		voters:   pick(1, 3, 3, 3, 3, 5),
		duration: w.between(8*second, 20*second),
		tick:     100 * millisecond,
		preVote:  w.chance(0.8),
		clients:  pick(2, 3, 4, 6),
		keys:     pick(1, 2, 3, 5),
		watchers: pick(1, 2, 3),
		pause:    int64(pick(20, 50, 100)) * millisecond,
		delay:    int64(pick(200, 1000, 5000, 20000)),
		sync:     int64(pick(100, 1000, 10000)),

		snapshotEntries: uint64(pick(5, 20, 60, 200)),
		catchUpEntries:  uint64(pick(0, 1, 5, 20)),
		segmentBytes:    int64(pick(4, 8, 16)) << 10,
		cacheBytes:      int64(pick(1, 1<<20)),
		outboxEvents:    pick(1, 4, 1000),
		replayBytes:     pick(1, 200, 1<<20),
		compactRows:     pick(1, 3, 100),
		interval:        int64(pick(150, 400, 1000)) * millisecond,
	}
	p.txns = w.chance(0.4)
	if w.chance(0.4) {
		p.drift = float64(pick(1, 10)) / 100
	}
	if w.chance(0.6) {
		p.drop = float64(pick(1, 5, 10)) / 100
	}
	if w.chance(0.6) {
		p.double = float64(pick(1, 5, 10)) / 100
	}
	if w.chance(0.6) {
		p.late = float64(pick(1, 5)) / 100
	}
	for _, d := range deeds {
		weight := d.weight
		if w.chance(0.3) {
			weight = 0
		}
		p.weights = append(p.weights, weight)
	}
	return p
}

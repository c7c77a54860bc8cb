package member

import (
	"context"
	"maps"
	"slices"
)

// space is what the fake knows of sizes and alarms.
type space struct {
	// sizes, used and quotas are by member.
	sizes, used, quotas map[ID]int64
	alarms              []Alarm
	compacted           bool
	// live is what is in use once the history is gone.
	live int64
}

func newSpace() space {
	return space{sizes: map[ID]int64{}, used: map[ID]int64{}, quotas: map[ID]int64{}}
}

// Fill brings every member to a size in bytes, of which live are keys and the
// rest history, and raises NOSPACE for the leader.
func (f *Fake) Fill(size, live int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.members {
		f.space.sizes[id], f.space.used[id] = size, size
	}
	f.space.live, f.space.compacted = live, false
	f.raise(Alarm{Type: NoSpace, Member: f.leader})
}

// Raise raises an alarm for the member of a pod.
func (f *Fake) Raise(kind, pod string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.raise(Alarm{Type: kind, Member: f.running[pod]})
}

func (f *Fake) raise(a Alarm) {
	if !slices.Contains(f.space.alarms, a) {
		f.space.alarms = append(f.space.alarms, a)
	}
}

// Quota is what a pod's server reads at its start.
func (f *Fake) Quota(pod string, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.space.quotas[f.running[pod]] = bytes
}

// Compact implements Access.
func (f *Fake) Compact(context.Context, []string, int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("compact"); err != nil {
		return err
	}
	f.space.compacted = true
	for id := range maps.Keys(f.members) {
		f.space.used[id] = f.space.live
	}
	f.note("compact")
	return nil
}

// Defragment implements Access.
func (f *Fake) Defragment(_ context.Context, endpoint string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("defragment"); err != nil {
		return err
	}
	id := f.running[host(endpoint)]
	if f.space.sizes[id] == f.space.used[id] {
		return nil
	}
	f.space.sizes[id] = f.space.used[id]
	f.note("defragment %s", host(endpoint))
	return nil
}

// Disarm implements Access.
func (f *Fake) Disarm(_ context.Context, _ []string, a Alarm) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("disarm"); err != nil {
		return err
	}
	f.space.alarms = slices.DeleteFunc(f.space.alarms, func(b Alarm) bool { return a == b })
	f.note("disarm %s", a.Type)
	return nil
}

// corrupt says that nobody passes a probe.
func (s *space) corrupt() bool {
	return slices.ContainsFunc(s.alarms, func(a Alarm) bool { return a.Type == Corrupt })
}

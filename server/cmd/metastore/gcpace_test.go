package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	const mib = int64(1) << 20
	for _, tc := range []struct {
		live, goal int64
		want       int
	}{
		{10 * mib, 128 * mib, 1175},
		{64 * mib, 128 * mib, 100},
		{1000 * mib, 128 * mib, 100}, // a large heap is as Go has it
		{0, 128 * mib, 3100},
		{30 * mib, 8 * mib, 100}, // a small container
	} {
		if got := gcPercent(tc.live, tc.goal); got != tc.want {
			t.Errorf("%d MiB alive, goal %d MiB: got %d, want %d", tc.live/mib, tc.goal/mib, got, tc.want)
		}
	}
}

// A heap that grows is collected as Go does, also when it was small at first.
func TestPaceGCFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	runtime.GC()
	stop := paceGC(0)
	defer stop()
	percent := func() int {
		p := debug.SetGCPercent(-1)
		debug.SetGCPercent(p)
		return p
	}
	if p := percent(); p <= 100 {
		t.Fatalf("a small heap has %d %%", p)
	}
	big := make([]*[1 << 20]byte, 100)
	for i := range big {
		big[i] = new([1 << 20]byte)
	}
	for deadline := time.Now().Add(20 * time.Second); percent() != 100; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("100 MiB are alive and the heap has %d %%", percent())
		}
	}
	runtime.KeepAlive(big)
}

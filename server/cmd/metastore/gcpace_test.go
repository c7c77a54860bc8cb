package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
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
		{100 * mib, 128 * mib, 60}, {450 * mib, 128 * mib, 10}, {100000 * mib, 128 * mib, 10},
		{0, 128 * mib, 3100},
		{30 * mib, 8 * mib, 100}, // a small container
	} {
		if got := gcPercent(tc.live, tc.goal); got != tc.want {
			t.Errorf("%d MiB alive, goal %d MiB: got %d, want %d", tc.live/mib, tc.goal/mib, got, tc.want)
		}
	}
}

// A heap that grows is collected by what it keeps, also when it was small at first.
func TestPaceGCFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	runtime.GC()
	stop := paceGC(0)
	defer stop()
	percent := func() int {
		now := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(now)
		return int(now[0].Value.Uint64())
	}
	if p := percent(); p <= 100 {
		t.Fatalf("a small heap has %d %%", p)
	}
	big := make([]*[1 << 20]byte, 100)
	for i := range big {
		big[i] = new([1 << 20]byte)
	}
	for deadline := time.Now().Add(20 * time.Second); percent() > 60; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("100 MiB are alive and the heap has %d %%", percent())
		}
	}
	runtime.KeepAlive(big)
}

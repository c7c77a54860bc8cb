package sim

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"
)

var (
	flagSeed  = flag.Uint64("sim.seed", 0, "replay this one seed, with its trace")
	flagSeeds = flag.Int("sim.seeds", 300, "how many new seeds to run")
	flagPlant = flag.String("sim.plant", "", "build this defect in")

	flagLeave  = flag.String("sim.leave", "", "leave these operations and deeds out, as a shrunk failure prints them")
	flagShrink = flag.Int("sim.shrink", 300, "how many runs to spend on making a failure smaller")
	flagWorker = flag.Bool("sim.worker", false, "run seeds for another process; see runAll")
)

// TestSim runs new seeds, and tells the seed of each failure.
func TestSim(t *testing.T) {
	leave, err := parseLeft(*flagLeave)
	if err != nil {
		t.Fatalf("-sim.leave: %v", err)
	}
	if *flagSeed != 0 {
		out := simulate(t, *flagSeed, planted(*flagPlant), leave, traceTo(testing.Verbose()))
		t.Logf("seed %d: %s; trace %x", out.seed, out.stats, out.trace)
		if out.failure != "" {
			t.Fatalf("seed %d: %s", out.seed, out.failure)
		}
		return
	}
	var seeds []uint64
	for range *flagSeeds {
		seeds = append(seeds, rand.Uint64()>>16|1)
	}
	began, told := time.Now(), time.Now()
	failures := 0
	var total stats
	done := 0
	for r := range runAll(t, seeds) {
		done++
		total.add(r.Stats)
		if r.Failure != "" {
			failures++
			t.Errorf("seed %d fails, replay it with: go test ./server/sim -run TestSim$ -v -sim.seed=%d\n%s", r.Seed, r.Seed, r.Failure)
			if failures == 1 {
				explain(t, r.Seed)
			}
		}
		if time.Since(told) > 30*time.Second {
			told = time.Now()
			fmt.Printf("sim: %d of %d seeds, %s, %d failures\n", done, len(seeds), time.Since(began).Round(time.Second), failures)
		}
	}
	if done != len(seeds) {
		t.Errorf("%d of %d seeds ran", done, len(seeds))
	}
	fmt.Printf("sim: %d seeds in %s, %d failures; %s\n", done, time.Since(began).Round(time.Millisecond), failures, total)
}

// explain shrinks a failure and tells what it needs.
func explain(t *testing.T, seed uint64) {
	t.Helper()
	failed := simulate(t, seed, planted(*flagPlant), nil, nil)
	if failed.failure == "" {
		t.Errorf("seed %d does not fail again: its run is not deterministic", seed)
		return
	}
	small, leave := shrink(failed, *flagShrink, func(leave map[part]bool) outcome {
		return simulate(t, seed, planted(*flagPlant), leave, nil)
	})
	t.Logf("seed %d needs %d of %d operations and deeds; the nemesis did\n  %s\nreplay that with: go test ./server/sim -run TestSim$ -v -sim.seed=%d -sim.leave=%s\n%s",
		seed, len(small.parts), len(failed.parts), strings.Join(small.deeds, "\n  "), seed, leftText(leave), small.failure)
}

func traceTo(wanted bool) io.Writer {
	if wanted {
		return os.Stdout
	}
	return nil
}

func simulate(t *testing.T, seed uint64, fault planted, leave map[part]bool, trace io.Writer) outcome {
	t.Helper()
	// Raft draws its election time-outs from crypto/rand.
	cryptotest.SetGlobalRandom(t, seed)
	return run(seed, fault, leave, trace)
}

// The same seed gives the same run, step by step.
func TestSameSeedSameRun(t *testing.T) {
	for seed := range uint64(6) {
		a, b := simulate(t, seed+100, plantNone, nil, nil), simulate(t, seed+100, plantNone, nil, nil)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("seed %d: two runs differ:\n%+v\n%+v", seed+100, a, b)
		}
	}
}

// A shrunk run breaks the same promise with less, and replays from its text.
func TestShrink(t *testing.T) {
	const large = 100 // parts: what fails at once cannot be made much smaller
	var failed outcome
	for seed := uint64(1); failed.failure == "" || len(failed.parts) < large; seed++ {
		if failed = simulate(t, seed, plantStaleRead, nil, nil); seed > 100 {
			t.Fatal("no failure to shrink")
		}
	}
	again := func(leave map[part]bool) outcome {
		return simulate(t, failed.seed, plantStaleRead, leave, nil)
	}
	small, leave := shrink(failed, 60, again)
	if len(small.parts) > len(failed.parts)/2 {
		t.Errorf("%d of %d parts are left", len(small.parts), len(failed.parts))
	}
	read, err := parseLeft(leftText(leave))
	if err != nil || !reflect.DeepEqual(read, leave) {
		t.Fatalf("what is left out reads back as %v, %v; want %v", read, err, leave)
	}
	if replayed := again(read); replayed.trace != small.trace || replayed.failure != small.failure {
		t.Errorf("the shrunk run replays as %q, want %q", replayed.failure, small.failure)
	}
	t.Logf("%d of %d parts are left: %s", len(small.parts), len(failed.parts), small.failure)
}

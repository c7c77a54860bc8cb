package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"testing/cryptotest"
	"time"
)

var (
	flagSeed  = flag.Uint64("sim.seed", 0, "replay this one seed, with its trace")
	flagSeeds = flag.Int("sim.seeds", 60, "how many new seeds to run")
	flagPlant = flag.String("sim.plant", "", "build this defect in")
)

// fixedSeeds found a defect once, in the worlds that they gave then: a leader
// that was removed while it wrote, a segment whose name was lost with the power,
// a removal whose commit was forgotten.
var fixedSeeds = []uint64{9445602793327, 93092743102999, 154454772150235}

// TestSim runs the fixed seeds and new ones, and tells the seed of each failure.
func TestSim(t *testing.T) {
	if *flagSeed != 0 {
		out := simulate(t, *flagSeed, planted(*flagPlant), testing.Verbose())
		t.Logf("seed %d: %s; trace %x", out.seed, out.stats, out.trace)
		if out.failure != "" {
			t.Fatalf("seed %d: %s", out.seed, out.failure)
		}
		return
	}
	seeds := append([]uint64(nil), fixedSeeds...)
	for range *flagSeeds {
		seeds = append(seeds, rand.Uint64()>>16|1)
	}
	began, told := time.Now(), time.Now()
	failures := 0
	var total stats
	for i, seed := range seeds {
		out := simulate(t, seed, planted(*flagPlant), false)
		total.add(out.stats)
		if out.failure != "" {
			failures++
			t.Errorf("seed %d fails, replay it with: go test ./server/sim -run TestSim -v -sim.seed=%d\n%s", seed, seed, out.failure)
		}
		if time.Since(told) > 30*time.Second {
			told = time.Now()
			fmt.Printf("sim: %d of %d seeds, %s, %d failures\n", i+1, len(seeds), time.Since(began).Round(time.Second), failures)
		}
	}
	fmt.Printf("sim: %d seeds in %s, %d failures; %s\n", len(seeds), time.Since(began).Round(time.Millisecond), failures, total)
}

func simulate(t *testing.T, seed uint64, fault planted, trace bool) outcome {
	t.Helper()
	// Raft draws its election time-outs from crypto/rand.
	cryptotest.SetGlobalRandom(t, seed)
	if trace {
		return run(seed, fault, os.Stdout)
	}
	return run(seed, fault, nil)
}

// The same seed gives the same run, step by step.
func TestSameSeedSameRun(t *testing.T) {
	for seed := range uint64(6) {
		a, b := simulate(t, seed+100, plantNone, false), simulate(t, seed+100, plantNone, false)
		if a != b {
			t.Errorf("seed %d: two runs differ:\n%+v\n%+v", seed+100, a, b)
		}
	}
}

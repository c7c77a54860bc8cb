package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
)

// result is an outcome on its way between processes.
type result struct {
	Seed    uint64
	Failure string
	Stats   stats
}

// runAll runs seeds in as many processes as there are cores: crypto/rand is one
// for a whole process, so that two runs in one would not be deterministic. Seeds
// go to a process one a line; results come back in JSON on its third file.
func runAll(t *testing.T, seeds []uint64) iter.Seq[result] {
	t.Helper()
	results := make(chan result)
	queue := make(chan uint64)
	ended := make(chan struct{}) // all workers have
	var workers sync.WaitGroup
	for range min(runtime.NumCPU(), len(seeds)) {
		workers.Go(func() {
			if err := runWorker(queue, results); err != nil {
				t.Errorf("worker: %v", err)
			}
		})
	}
	go func() {
		workers.Wait()
		close(ended)
		close(results)
	}()
	go func() {
		defer close(queue)
		for _, s := range seeds {
			select {
			case queue <- s:
			case <-ended:
				return
			}
		}
	}()
	return func(yield func(result) bool) {
		for r := range results {
			yield(r)
		}
	}
}

// worker is a process that runs seeds.
type worker struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	out    *os.File
	lines  *json.Decoder
	output bytes.Buffer
}

func startWorker() (*worker, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	k := &worker{out: out, lines: json.NewDecoder(out)}
	k.cmd = exec.Command(os.Args[0], "-test.run=^TestWorker$", "-test.timeout=0", "-sim.worker", "-sim.plant="+*flagPlant)
	k.cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=400")
	k.cmd.ExtraFiles = []*os.File{in}
	k.cmd.Stdout, k.cmd.Stderr = &k.output, &k.output
	if k.stdin, err = k.cmd.StdinPipe(); err == nil {
		err = k.cmd.Start()
	}
	return k, errors.Join(err, in.Close()) // the child has its own
}

func (k *worker) run(seed uint64) (r result, err error) {
	if _, err = fmt.Fprintln(k.stdin, seed); err == nil {
		err = k.lines.Decode(&r)
	}
	return r, err
}

// stop ends the process, which it does by itself where its input ends.
func (k *worker) stop() error {
	err := errors.Join(k.stdin.Close(), k.cmd.Wait(), k.out.Close())
	if err != nil {
		return fmt.Errorf("%w\n%s", err, &k.output)
	}
	return nil
}

// runWorker takes seeds from the queue. The process dies where a goroutine
// panics that is not the run's; its seed has failed then, and another process
// goes on.
func runWorker(queue <-chan uint64, results chan<- result) error {
	var k *worker
	for seed := range queue {
		if k == nil {
			var err error
			if k, err = startWorker(); err != nil {
				return err
			}
		}
		r, err := k.run(seed)
		if err != nil {
			r = result{Seed: seed, Failure: errors.Join(err, k.stop()).Error()}
			k = nil
		}
		results <- r
	}
	if k == nil {
		return nil
	}
	return k.stop()
}

// TestWorker is the other end of runWorker; by itself it checks that a worker's
// result is the run's.
func TestWorker(t *testing.T) {
	if !*flagWorker {
		want := simulate(t, 7, plantNone, nil, nil)
		for r := range runAll(t, []uint64{7}) {
			if r.Stats != want.stats || r.Failure != want.failure {
				t.Errorf("the worker's run gives %+v, this process' %+v", r, want.stats)
			}
		}
		return
	}
	results := json.NewEncoder(os.NewFile(3, "results"))
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var seed uint64
		if _, err := fmt.Sscan(lines.Text(), &seed); err != nil {
			t.Fatal(err)
		}
		out := simulate(t, seed, planted(*flagPlant), nil, nil)
		if err := results.Encode(result{out.seed, out.failure, out.stats}); err != nil {
			t.Fatal(err)
		}
	}
}

package enginetest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"metastore.io/metastore/server/engine"
)

func testFlushAndReopen(t *testing.T, o engine.Opener) {
	dir := t.TempDir() + "/a/b/engine"
	var want [engine.SpaceCount][]string
	for round := range 3 {
		e := openDir(t, o, dir)
		for s := range want {
			if got := scanned(t, e, engine.Space(s), nil, nil); fmt.Sprint(got) != fmt.Sprint(want[s]) {
				t.Fatalf("round %d, space %d: got %d rows, want %d", round, s, len(got), len(want[s]))
			}
		}
		e.apply(func(b *engine.Batch) {
			for i := range 3000 {
				b.Put(revisions, fmt.Appendf(nil, "%d-%05d", round, i), bytes.Repeat([]byte{byte(i)}, i%700))
			}
			b.Put(revisions, nil, nil)
			b.Put(meta, []byte("applied"), []byte{byte(round)})
			b.Put(meta, fmt.Appendf(nil, "%d", round), []byte("x"))
		})
		e.apply(func(b *engine.Batch) {
			b.DeleteRange(revisions, fmt.Appendf(nil, "%d-00100", round), fmt.Appendf(nil, "%d-00200", round))
			b.Delete(meta, fmt.Appendf(nil, "%d", round-1))
		})
		for s := range want {
			want[s] = scanned(t, e, engine.Space(s), nil, nil)
		}
		e.flush()
		e.close()
	}
}

func testReopenWithoutFlush(t *testing.T, o engine.Opener) {
	dir := t.TempDir() + "/engine"
	e := openDir(t, o, dir)
	const batches, flushed = 200, 120
	b := engine.NewBatch()
	for i := range uint64(batches) {
		b.Reset()
		generation(b, i+1)
		if err := e.Apply(b); err != nil {
			t.Fatal(err)
		}
		if i+1 == flushed {
			e.flush()
		}
	}
	e.close()
	state, err := checkGeneration(openDir(t, o, dir))
	if err != nil || state < flushed || state > batches {
		t.Errorf("got state %d and error %v, want one of %d to %d", state, err, flushed, batches)
	}
}

// testFlushUnderWrites checks that a flush that runs beside a writer holds all
// that was applied before it began, and nothing in part.
func testFlushUnderWrites(t *testing.T, o engine.Opener) {
	dir := t.TempDir() + "/engine"
	e := openDir(t, o, dir)
	stop := make(chan struct{})
	var done atomic.Uint64
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := writeGenerations(e, stop, &done); err != nil {
			t.Errorf("write: %v", err)
		}
	})
	var before uint64
	for range 5 {
		before = done.Load()
		e.flush()
	}
	close(stop)
	writer.Wait()
	e.close()
	state, err := checkGeneration(openDir(t, o, dir))
	if err != nil || state < before || state > done.Load() {
		t.Errorf("got state %d and error %v, want one of %d to %d", state, err, before, done.Load())
	}
}

// crashDirEnv makes Run write to the engine in this folder instead of testing.
const crashDirEnv = "ENGINETEST_CRASH_DIR"

// testKilledWhileWriting kills processes that write and flush, one after the
// other on one folder, and checks what the engine holds after each.
func testKilledWhileWriting(t *testing.T, o engine.Opener) {
	dir := t.TempDir() + "/engine"
	name, _, _ := strings.Cut(t.Name(), "/")
	for round, reports := range []int{2, 9, 17, 30} {
		flushed := runUntilKilled(t, name, dir, reports)
		e := openDir(t, o, dir)
		state, err := checkGeneration(e)
		if err != nil || state < flushed {
			t.Fatalf("round %d: got state %d and error %v, want %d or later", round, state, err, flushed)
		}
		t.Logf("round %d: state %d after state %d was flushed", round, state, flushed)
		e.close()
	}
}

// runUntilKilled starts a writing process, kills it at the given number of
// reports, and returns the last state that it called durable.
func runUntilKilled(t *testing.T, name, dir string, reports int) (flushed uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+name+"$")
	cmd.Env = append(os.Environ(), crashDirEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var state uint64
		if n, _ := fmt.Sscanf(lines.Text(), "flushed %d", &state); n == 1 {
			flushed = state
		} else if n, _ := fmt.Sscanf(lines.Text(), "applied %d", &state); n != 1 {
			continue
		}
		if seen++; seen == reports {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the writing process ended by itself: %v\n%s", err, stderr.String())
	}
	return flushed
}

// reportEvery is the number of batches between reports of a writing process;
// flushEvery is the number of reports between its flushes. In between an engine
// that writes by itself is ahead of the last flush.
const (
	reportEvery = 500
	flushEvery  = 4
)

// writeUntilKilled is the process that is killed: it applies, and flushes beside
// that in another goroutine.
func writeUntilKilled(t *testing.T, o engine.Opener, dir string) {
	e := openDir(t, o, dir)
	state, err := checkGeneration(e)
	if err != nil {
		t.Fatal(err)
	}
	flush := make(chan uint64, 1)
	go func() {
		for state := range flush {
			e.flush()
			fmt.Printf("flushed %d\n", state)
		}
	}()
	b := engine.NewBatch()
	for i := state + 1; ; i++ {
		b.Reset()
		generation(b, i)
		if err := e.Apply(b); err != nil {
			t.Fatal(err)
		}
		if i%reportEvery != 0 {
			continue
		}
		fmt.Printf("applied %d\n", i)
		if i%(flushEvery*reportEvery) == 0 {
			select {
			case flush <- i:
			default: // the last one is still under way
			}
		}
	}
}

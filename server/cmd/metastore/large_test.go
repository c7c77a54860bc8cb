package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"metastore.io/metastore/server/bench"
)

var largeKeys = flag.Int("large.keys", 20_000, "keys of 32 bytes with values of 256 of one member with the memory of -overload.mib")

// TestLarge loads many keys into a member with little memory, writes a tenth of
// them again, compacts, reads at random and everything, and starts again.
func TestLarge(t *testing.T) { eachEngine(t, large) }

func large(t *testing.T, engine string) {
	const keyBytes, valueBytes = 32, 256
	m := newCluster(t, engine, 1, "--quota-backend-bytes=17179869184")[0]
	limitServer(t, m, engine)
	startLimited(t, m)
	ctx := within(t, time.Hour)
	c := client(t, m)

	load := runBench(t, "get", m, fmt.Sprint("--key-space=", *largeKeys), "--count=200000", "--duration=10m", "--connections=8")
	t.Logf("%d keys loaded and %d read at random: p50 %.0f µs, p99 %.0f µs; RSS %d MiB", *largeKeys, load.Total.Operations, load.Total.P50, load.Total.P99, load.Server.RSSBytes>>20)
	again := runBench(t, "put", m, fmt.Sprint("--key-space=", *largeKeys), fmt.Sprint("--count=", *largeKeys/10), "--duration=10m", "--connections=8")
	status, err := c.Status(ctx, m.client)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := c.Compact(ctx, status.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	compacted := time.Since(began)
	p99 := readRandom(ctx, t, c, *largeKeys/100)
	began = time.Now()
	if n := scanAll(ctx, t, c); n != *largeKeys {
		t.Errorf("a scan found %d keys of %d", n, *largeKeys)
	}
	scanned := time.Since(began)
	logical := float64(*largeKeys+*largeKeys/10) * (keyBytes + valueBytes)
	t.Logf("a tenth written again: p99 %.0f µs; compacted in %s; read at random after it: p99 %s; scanned in %s; %.1f bytes written for each of keys and values",
		again.Total.P99, compacted.Round(time.Millisecond), p99, scanned.Round(time.Millisecond), float64(writtenBytes(t, m))/logical)
	wantWithinLimit(t, m, "loaded")

	m.terminate()
	began = time.Now()
	startLimited(t, m)
	t.Logf("served %s after a new start", time.Since(began).Round(time.Millisecond))
	if r, err := client(t, m).Get(ctx, "bench/", clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || r.Count != int64(*largeKeys) {
		t.Errorf("%v keys of %d after a new start: %v", r, *largeKeys, err)
	}
	wantWithinLimit(t, m, "started again")
}

// startLimited starts the member in its cgroup, and nothing that follows.
func startLimited(t *testing.T, m *member) {
	t.Helper()
	dir := os.Getenv(cgroupOfServer)
	m.start()
	t.Setenv(cgroupOfServer, "")
	m.waitServing()
	t.Setenv(cgroupOfServer, dir)
}

// wantWithinLimit wants the peak of a member's memory to be below its limit.
func wantWithinLimit(t *testing.T, m *member, when string) {
	t.Helper()
	peak := peakBytes(t, m, "VmHWM")
	t.Logf("%s: peak RSS %d MiB of %d", when, peak>>20, *overloadMiB)
	if peak > *overloadMiB<<20 {
		t.Errorf("%s: %d MiB", when, peak>>20)
	}
}

// runBench runs a scenario of metastore bench on a member.
func runBench(t *testing.T, scenario string, m *member, flags ...string) (r bench.Report) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.Command(os.Args[0], append([]string{"bench", scenario, "--endpoints=" + m.client,
		fmt.Sprint("--server-pid=", m.cmd.Process.Pid), "--quiet", "--json=" + file}, flags...)...)
	cmd.Env = append(os.Environ(), asServer+"=1", cgroupOfServer+"=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("bench %s: %v\n%s", scenario, err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// readRandom reads keys that the benchmark wrote and returns the p99.
func readRandom(ctx context.Context, t *testing.T, c *clientv3.Client, n int) time.Duration {
	t.Helper()
	first, err := c.Get(ctx, "bench/", clientv3.WithPrefix(), clientv3.WithLimit(1))
	if err != nil || len(first.Kvs) != 1 {
		t.Fatalf("the first key: %v, %v", first, err)
	}
	width := len(first.Kvs[0].Key) - len("bench/")
	var mu sync.Mutex
	var took []time.Duration
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for range n / 8 {
				key := fmt.Sprintf("bench/%0*d", width, rand.IntN(*largeKeys))
				began := time.Now()
				if r, err := c.Get(ctx, key); err != nil || len(r.Kvs) != 1 {
					t.Errorf("%s: %v, %v", key, r, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	readers.Wait()
	return p99Of(t, took)
}

// scanAll reads everything, 10,000 keys at a time.
func scanAll(ctx context.Context, t *testing.T, c *clientv3.Client) (n int) {
	t.Helper()
	for from := "bench/"; ; {
		r, err := c.Get(ctx, from, clientv3.WithRange("bench0"), clientv3.WithLimit(10_000))
		if err != nil {
			t.Fatal(err)
		}
		n += len(r.Kvs)
		if !r.More {
			return n
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// writtenBytes is what a member's process caused to be written to disks.
func writtenBytes(t *testing.T, m *member) (n int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", m.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	t.Fatal("the kernel does not count what a process writes")
	return 0
}

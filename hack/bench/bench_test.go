package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also looks for goroutines that nobody ends.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testRuns(perSecond ...float64) (list []report) {
	for _, n := range perSecond {
		var r report
		r.Total.PerSecond, r.Total.P50, r.Server.CPU = n, 1e6/n, 2e6/n
		list = append(list, r)
	}
	return list
}

func TestMediansAndRatios(t *testing.T) {
	r := results{Settings: settings{Rounds: 3, Engines: []string{"memory", "rocksdb"}}, Comparisons: []comparison{{
		Workload: "put-64", Disk: diskTmpfs, Members: 1, Servers: []measured{
			{Name: "etcd", Runs: testRuns(300, 100, 200)}, {Name: "metastore memory", Runs: testRuns(900, 700, 500, 100)}, {Name: "metastore rocksdb"},
		},
	}}}
	var out bytes.Buffer
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"600 (3.00)", "failed", "10 ms (1.00)"} {
		found := strings.Contains(out.String(), want)
		if want == "10 ms (1.00)" {
			found = !found // etcd is not compared with itself
		}
		if !found {
			t.Errorf("%q: not as it should be in\n%s", want, out.String())
		}
	}
	d := xml.NewDecoder(strings.NewReader(r.plot()))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
	}
}

func TestWhatToMeasure(t *testing.T) {
	if all, short := chosen("all"), chosen("short"); len(all) != len(workloads) || len(short) == 0 || len(short) >= len(all) {
		t.Errorf("all %v, short %v", all, short)
	}
	if got := arguments("put-1"); !slices.Equal(got, []string{"bench", "put", "--in-flight=1"}) {
		t.Errorf("got %v", got)
	}
	for flags, want := range map[string]string{
		"-members=2": "-members=2 is not valid: 1, 3 or 1,3 is allowed", "-disk=tape": "-disk=tape is not valid",
		"-engine=x": "-engine=x is not valid", "-workload=put-1,x": "-workload=x is not valid", "-rounds=0": "-rounds=0 is not valid",
	} {
		if _, err := parse([]string{flags}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v", flags, err)
		}
	}
}

func TestSectorsOfTheDevice(t *testing.T) {
	text := "   7       0 loop0 1 2 3 4 5 6 7 8 9 10 11\n 253       1 vda1 21 22 23 24 25 26 4711 28 29 30 31\n"
	if n := sectorsWritten(text, "253", "1"); n != 4711 {
		t.Errorf("got %v", n)
	}
	if n := sectorsWritten(text, "253", "2"); n != 0 {
		t.Errorf("no device: got %v", n)
	}
}

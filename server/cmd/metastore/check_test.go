package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"metastore.io/metastore/server/node"
)

// runCheck runs the subcommand in a process of its own.
func runCheck(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut strings.Builder
	cmd := exec.Command(os.Args[0], append([]string{"check"}, args...)...)
	cmd.Env = append(os.Environ(), asServer+"=1")
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// checked is the report of a whole data dir.
func (m *member) checked(args ...string) (r node.CheckReport) {
	m.t.Helper()
	code, out, errOut := runCheck(m.t, append(args, "--json", m.dir)...)
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil {
		m.t.Fatalf("check of %s: code %d, %v\n%s", m.name, code, err, errOut)
	}
	return r
}

// Members that are killed under load, one of which came by its state as a
// snapshot, have whole data dirs with the same hash, which is also what they
// tell when they run again.
func TestCheckAfterKill(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		members := startCluster(t, engine, 3, "--snapshot-count=20", "--snapshot-catchup-entries=10")
		members[2].kill()
		l := startLoad(client(t, members[:2]...), 8)
		eventually(t, 2*time.Minute, func() error {
			if n := l.writes.Load(); n < 1500 {
				return fmt.Errorf("%d writes", n)
			}
			return nil
		})
		members[2].start()
		members[2].waitServing()
		if code, _, errOut := runCheck(t, members[0].dir); code != node.ExitLocked || !strings.Contains(errOut, "in use") {
			t.Errorf("check of a running member: code %d, %s", code, errOut)
		}
		for _, m := range members {
			m.signal(syscall.SIGKILL)
		}
		for _, m := range members {
			m.kill()
		}
		l.end()

		rev := int64(math.MaxInt64)
		for _, m := range members {
			r := m.checked()
			if r.Members != 3 || r.Incarnations == 0 || r.FlushedIndex <= 1 {
				t.Errorf("%s: %+v", m.name, r)
			}
			rev = min(rev, r.Revision)
		}
		want := members[0].checked("--rev", fmt.Sprint(rev)).Hash
		for _, m := range members[1:] {
			if got := m.checked("--rev", fmt.Sprint(rev)).Hash; got != want {
				t.Errorf("at revision %d %s has the hash %d, %s has %d", rev, m.name, got, members[0].name, want)
			}
		}
		startAll(members)
		l.verify(t, client(t, members...))
		h, err := client(t, members[0]).HashKV(within(t, clientPatience), members[0].client, rev)
		if err != nil || h.Hash != want {
			t.Errorf("the member tells %v, %v, check told %d", h, err, want)
		}
	})
}

func TestCheckPrints(t *testing.T) {
	m := newMember(t, "solo", engines()[0])
	m.start()
	m.waitServing()
	if _, err := client(t, m).Put(within(t, clientPatience), "k", "v"); err != nil {
		t.Fatal(err)
	}
	m.terminate()
	code, out, errOut := runCheck(t, m.dir)
	if code != 0 || errOut != "" {
		t.Fatalf("code %d: %s", code, errOut)
	}
	for _, want := range []string{"engine: ", m.engine + "\n", "cluster ID: ", "member ID: ", "incarnations: ", "applied: ", "revision: ", "compacted: ", "keys: ", "leases: ", "hash: ", " at revision 2\n", "no damage found\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	for _, args := range [][]string{{}, {m.dir, m.dir}, {"--no-such-flag", m.dir}, {m.dir + "/missing"}, {m.dir + "/MARKER"}, {"--rev=7", m.dir}, {"--rev=-1", m.dir}} {
		code, out, errOut := runCheck(t, args...)
		if code != node.ExitUsage || out != "" || strings.Count(errOut, "\n") != 1 {
			t.Errorf("check %q: code %d, prints %q, tells %q", args, code, out, errOut)
		}
	}
}

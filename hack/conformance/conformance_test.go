package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also looks for goroutines that nobody ends.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t *testing.T, text string) []exception {
	t.Helper()
	list, err := parseLeftOut(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// The list of the repository is well formed, and names suites that there are.
func TestLeftOutIsReadable(t *testing.T) {
	list := parse(t, leftOutText)
	if len(list) == 0 {
		t.Fatal("nothing was read")
	}
	if err := knownSuites(list); err != nil {
		t.Fatal(err)
	}
}

func TestLeftOutRefuses(t *testing.T) {
	for _, text := range []string{"e2e out TestA", "e2e sometimes TestA because", "e2e out Test( because", "e2e may TestA/sub because"} {
		if list, err := parseLeftOut(text); err == nil {
			t.Errorf("%q was read as %+v", text, list)
		}
	}
	if err := knownSuites(parse(t, "e3e out TestA because")); err == nil {
		t.Error("a suite that does not exist was taken")
	}
}

func TestJudge(t *testing.T) {
	tests := []string{"TestA", "TestAB", "TestC", "TestD"}
	subtests := func(name string) bool { return name == "one_case" }
	got, err := judge("e2e", tests, parse(t, `# why
		e2e out TestA because
		common out TestC because
		e2e may TestA.+ it is slow
		e2e out TestC/one_case because
		e2e out TestD/one_case because`), subtests)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]standing{"TestA": isOut, "TestAB": mayFail, "TestC": mustPass} {
		if got.standings[name] != want {
			t.Errorf("%s is %v, want %v", name, got.standings[name], want)
		}
	}
	if want := "^TestC$/^one_case$|^TestD$/^one_case$"; got.skip != want {
		t.Errorf("skipped is %s, want %s", got.skip, want)
	}
	for what, text := range map[string]string{
		"a name without a test":    "e2e out TestB because",
		"a subtest without a test": "e2e out TestB/one_case because",
		"a subtest that is none":   "e2e out TestA/another because",
		"a test listed twice":      "e2e out TestA because\ne2e may TestA.* because",
	} {
		if got, err := judge("e2e", tests, parse(t, text), subtests); err == nil {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func TestOutcomeOf(t *testing.T) {
	for log, want := range map[string]outcome{
		"=== RUN   TestA\n--- PASS: TestA (0.10s)\nPASS\n":                 passed,
		"=== RUN   TestA\nno end of line--- PASS: TestA (0.10s)\nPASS\n":   passed,
		"--- SKIP: TestA (0.10s)\n":                                        skipped,
		"--- FAIL: TestA (0.10s)\n    --- PASS: TestA/sub (0.10s)\nFAIL\n": failed,
		"    --- PASS: TestA (0.10s)\n":                                    failed, // a subtest of another
		"--- PASS: TestAB (0.10s)\n":                                       failed,
		"panic: test timed out after 5m0s\n":                               failed,
		"--- PASS: TestA (0.10s)\nleaked goroutines\nexit status 1\n":      passed,
	} {
		if got := outcomeOf("TestA", log); got != want {
			t.Errorf("%q: %v, want %v", log, got, want)
		}
	}
}

// What must pass and fails, or skips itself unlisted, is bad; what may fail is
// only counted.
func TestTally(t *testing.T) {
	a := tally{suite: "e2e"}
	a.leftOut()
	a.add(result{name: "A", outcome: passed, tries: 2}, mustPass)
	a.add(result{name: "B", outcome: failed}, mustPass)
	a.add(result{name: "C", outcome: failed}, mayFail)
	a.add(result{name: "D", outcome: skipped}, mustPass)
	a.add(result{name: "E", outcome: skipped}, skipsSelf)
	if got, want := a.String(), "e2e: 1 passed, 2 failed, 3 skipped of 6"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := strings.Join(a.bad, ","); got != "B,D (skips itself, and is not listed)" {
		t.Errorf("bad are %s", got)
	}
	if len(a.retried) != 1 || a.retried[0] != "A" {
		t.Errorf("retried are %v", a.retried)
	}
}

// An edit that finds another text than it was made for fails.
func TestReplaceIn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit := []replacement{{`a(?s:.*?)z`, "$new"}}
	write("<a\nz>")
	if err := replaceIn(file, edit); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "<$new>" {
		t.Errorf("%q, %v", b, err)
	}
	for _, text := range []string{"nothing", "az az"} {
		write(text)
		if err := replaceIn(file, edit); err == nil {
			t.Errorf("%q was edited", text)
		}
	}
}

func TestSelections(t *testing.T) {
	for name := range groups {
		if in, err := selection(name, ""); err != nil || in("Test") {
			t.Errorf("group %s takes a name that is none, or %v", name, err)
		}
	}
	if _, err := selection("nosuch", ""); err == nil {
		t.Error("a group that does not exist was taken")
	}
	if _, err := selection("kv", "Test"); err == nil {
		t.Error("a group and a pattern were taken at once")
	}
	for pattern, want := range map[string]bool{"": true, "Put": true, "^Put": false} {
		if in, err := selection("", pattern); err != nil || in("TestPut") != want {
			t.Errorf("%q: %v, want %v", pattern, err, want)
		}
	}
}

func TestFastSubset(t *testing.T) {
	s := suite{fast: "TestA.*|TestB", slow: "TestAB"}
	in, err := s.isFast()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"TestA": true, "TestAB": false, "TestABC": true, "TestB": true, "TestBC": false} {
		if in(name) != want {
			t.Errorf("%s is fast: %v", name, !want)
		}
	}
	for _, s := range suites {
		if _, err := s.isFast(); err != nil || s.tests == 0 {
			t.Errorf("suite %s: %d tests, %v", s.name, s.tests, err)
		}
	}
}

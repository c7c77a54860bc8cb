package main

import (
	"fmt"
	"regexp"
	"strings"
)

// outcome is how a test ended.
type outcome int

const (
	failed outcome = iota
	passed
	skipped
)

func (o outcome) String() string {
	switch o {
	case passed:
		return "pass"
	case skipped:
		return "skip"
	}
	return "FAIL"
}

// outcomeOf reads a test's end out of the binary's output. A log line without
// an end of line may stand before it.
func outcomeOf(name, log string) outcome {
	end := regexp.MustCompile(`(?m)^(?:.*[^ ])?--- (PASS|SKIP|FAIL): ` + regexp.QuoteMeta(name) + ` \(`)
	o := failed
	for _, m := range end.FindAllStringSubmatch(log, -1) {
		switch m[1] {
		case "PASS":
			o = passed
		case "SKIP":
			o = skipped
		default:
			return failed
		}
	}
	return o
}

// tally is what became of a suite's tests.
type tally struct {
	suite                   string
	passed, failed, skipped int
	// bad are those that must pass and did not.
	bad []string
	// retried passed at the second try.
	retried []string
}

func (t *tally) add(r result, as standing) {
	switch r.outcome {
	case passed:
		t.passed++
		if r.tries > 1 {
			t.retried = append(t.retried, r.name)
		}
	case skipped:
		t.skipped++
		if as != skipsSelf {
			t.bad = append(t.bad, r.name+" (skips itself, and is not listed)")
		}
	default:
		t.failed++
		if as != mayFail {
			t.bad = append(t.bad, r.name)
		}
	}
}

// leftOut counts a test that is not run.
func (t *tally) leftOut() { t.skipped++ }

func (t *tally) String() string {
	return fmt.Sprintf("%s: %d passed, %d failed, %d skipped of %d", t.suite, t.passed, t.failed, t.skipped, t.passed+t.failed+t.skipped)
}

// lastLines are the end of a log, for who cannot see the file.
func lastLines(log string, n int) string {
	const width = 300
	lines := strings.Split(strings.TrimRight(log, "\n"), "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, l := range lines {
		if len(l) > width {
			lines[i] = l[:width] + "…"
		}
	}
	return strings.Join(lines, "\n")
}

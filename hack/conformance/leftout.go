package main

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed left-out.txt
var leftOutText string

// standing is how a test counts.
type standing int

const (
	mustPass  standing = iota
	isOut              // it is not run
	skipsSelf          // it skips itself
	mayFail            // it is run, and its failure does not count
)

var standings = map[string]standing{"out": isOut, "skips": skipsSelf, "may": mayFail}

// exception is a line of the list: tests that need not pass, and why.
type exception struct {
	suite string
	as    standing
	name  *regexp.Regexp
	// sub is the one subtest that is left out; empty for the whole test.
	sub    string
	reason string
}

func parseLeftOut(text string) ([]exception, error) {
	var list []exception
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 4 {
			return nil, fmt.Errorf("line %d: want SUITE out|skips|may NAME REASON", i+1)
		}
		as, ok := standings[f[1]]
		if !ok {
			return nil, fmt.Errorf("line %d: %q is none of out, skips, may", i+1, f[1])
		}
		test, sub, _ := strings.Cut(f[2], "/")
		if sub != "" && as != isOut {
			return nil, fmt.Errorf("line %d: a subtest can only be out", i+1)
		}
		name, err := whole(test)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		list = append(list, exception{suite: f[0], as: as, name: name, sub: sub, reason: strings.Join(f[3:], " ")})
	}
	return list, nil
}

// verdict is how each test of a suite counts.
type verdict struct {
	standings map[string]standing
	// skip is the pattern of the subtests that are left out, as Go's -test.skip
	// takes it; empty for none.
	skip string
}

// judge says how each test of a suite counts. A line that matches no test, and
// a test that two lines match, are mistakes in the list. hasSubtest tells whether
// the suite has a subtest of that name.
func judge(suite string, tests []string, list []exception, hasSubtest func(name string) bool) (verdict, error) {
	v := verdict{standings: map[string]standing{}}
	var skips []string
	for _, e := range list {
		if e.suite != suite {
			continue
		}
		matches := 0
		for _, t := range tests {
			if !e.name.MatchString(t) {
				continue
			}
			matches++
			if e.sub != "" {
				skips = append(skips, "^"+t+"$/^"+regexp.QuoteMeta(e.sub)+"$")
				continue
			}
			if _, twice := v.standings[t]; twice {
				return v, fmt.Errorf("left-out.txt: two lines match %s %s", suite, t)
			}
			v.standings[t] = e.as
		}
		if matches == 0 || e.sub != "" && !hasSubtest(e.sub) {
			return v, fmt.Errorf("left-out.txt: no test of %s has the name %s %s", suite, e.name, e.sub)
		}
	}
	v.skip = strings.Join(skips, "|")
	return v, nil
}

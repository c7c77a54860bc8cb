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
	suite  string
	as     standing
	name   *regexp.Regexp
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
		name, err := regexp.Compile(`^(` + f[2] + `)$`)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		list = append(list, exception{suite: f[0], as: as, name: name, reason: strings.Join(f[3:], " ")})
	}
	return list, nil
}

// judge says how each test of a suite counts. A line that matches no test, and
// a test that two lines match, are mistakes in the list.
func judge(suite string, tests []string, list []exception) (map[string]standing, error) {
	out := map[string]standing{}
	for _, e := range list {
		if e.suite != suite {
			continue
		}
		matches := 0
		for _, t := range tests {
			if !e.name.MatchString(t) {
				continue
			}
			if _, twice := out[t]; twice {
				return nil, fmt.Errorf("left-out.txt: two lines match %s %s", suite, t)
			}
			out[t] = e.as
			matches++
		}
		if matches == 0 {
			return nil, fmt.Errorf("left-out.txt: no test of %s has the name %s", suite, e.name)
		}
	}
	return out, nil
}

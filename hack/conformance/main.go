package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are what is to be run, and how.
type settings struct {
	server, engine      string
	etcdctl, etcdutl    string
	scratch             string
	suite, group, match string
	fast                bool
	parallel            int
}

// testsPerCore: most of the time, tests wait for processes and timers.
const testsPerCore = 2

func main() {
	if len(os.Args) > 1 && os.Args[1] == insideWord {
		os.Exit(runInside(os.Args[2:]))
	}
	var s settings
	flag.StringVar(&s.server, "server", "", "the server's binary")
	flag.StringVar(&s.engine, "engine", "", "the server's storage engine, or several with commas; empty for a server that has no choice")
	flag.StringVar(&s.etcdctl, "etcdctl", "", "etcd's etcdctl")
	flag.StringVar(&s.etcdutl, "etcdutl", "", "etcd's etcdutl")
	flag.StringVar(&s.scratch, "scratch", "", "the folder for copies, binaries and logs")
	flag.StringVar(&s.suite, "suite", "", "one suite: common, e2e, etcd3 or factory")
	flag.StringVar(&s.group, "group", "", "one group of tests, see suites.go")
	flag.StringVar(&s.match, "run", "", "tests whose names match this expression")
	flag.BoolVar(&s.fast, "fast", false, "the subset for every change")
	flag.IntVar(&s.parallel, "parallel", testsPerCore*runtime.NumCPU(), "how many tests run at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

var errTests = errors.New("tests failed that must pass")

func run(ctx context.Context, s settings) error {
	if s.server == "" || s.etcdctl == "" || s.etcdutl == "" || s.scratch == "" || s.parallel < 1 {
		return errors.New("-server, -etcdctl, -etcdutl and -scratch have to be given; make conformance does")
	}
	exceptions, err := parseLeftOut(leftOutText)
	if err != nil {
		return fmt.Errorf("left-out.txt: %w", err)
	}
	if err := knownSuites(exceptions); err != nil {
		return err
	}
	wanted := slices.DeleteFunc(slices.Clone(suites), func(t suite) bool { return s.suite != "" && s.suite != t.name || s.fast && t.fast == "" })
	if len(wanted) == 0 {
		return fmt.Errorf("no such suite: %s", s.suite)
	}
	return runAll(ctx, s, wanted, exceptions)
}

// runAll runs the suites on each engine and prints last of all what ran and how
// it ended, for who sees no more than the end.
func runAll(ctx context.Context, s settings, wanted []suite, exceptions []exception) error {
	begin, ok := time.Now(), true
	var ran []string
	for _, engine := range strings.Split(s.engine, ",") {
		on := s
		on.engine = engine
		what, tallies, err := runOn(ctx, on, wanted, exceptions)
		if err != nil {
			return err
		}
		for _, t := range tallies {
			ran = append(ran, fmt.Sprintf("%s, %s", what, t))
			ok = ok && len(t.bad) == 0
		}
	}
	if len(ran) == 0 {
		return errors.New("no test has such a name")
	}
	fmt.Printf("\nran in %d s; left out for the reasons in hack/conformance/left-out.txt:\n", int(time.Since(begin).Seconds()))
	for _, line := range ran {
		fmt.Println("  " + line)
	}
	if !ok {
		return errTests
	}
	return nil
}

// runOn runs the suites on one engine.
func runOn(ctx context.Context, s settings, wanted []suite, exceptions []exception) (what string, tallies []*tally, err error) {
	e, err := newEnvironment(s)
	if err != nil {
		return "", nil, err
	}
	defer e.close()
	if err := e.builder.build(ctx, wanted); err != nil {
		return "", nil, err
	}
	tallies, err = e.judge(ctx, wanted, exceptions)
	return e.what, tallies, err
}

func knownSuites(exceptions []exception) error {
	for _, x := range exceptions {
		if !slices.ContainsFunc(suites, func(s suite) bool { return s.name == x.suite }) {
			return fmt.Errorf("left-out.txt: there is no suite %s", x.suite)
		}
	}
	return nil
}

// judge runs the suites and prints which tests did not pass at once.
func (e *environment) judge(ctx context.Context, wanted []suite, exceptions []exception) (tallies []*tally, err error) {
	for _, s := range wanted {
		t, err := e.runSuite(ctx, s, exceptions)
		if err != nil {
			return nil, fmt.Errorf("suite %s: %w", s.name, err)
		}
		if t != nil {
			tallies = append(tallies, t)
		}
	}
	fmt.Println()
	for _, t := range tallies {
		for _, name := range t.retried {
			fmt.Printf("%s needed a second try: %s\n", t.suite, name)
		}
		for _, name := range t.bad {
			fmt.Printf("%s must pass and does not: %s\n", t.suite, name)
		}
	}
	fmt.Printf("%s: logs in %s\n", e.what, e.out)
	return tallies, nil
}

// runSuite returns nil when none of the suite's tests is wanted.
func (e *environment) runSuite(ctx context.Context, s suite, exceptions []exception) (*tally, error) {
	all, err := e.list(ctx, s)
	if err != nil {
		return nil, err
	}
	if len(all) != s.tests {
		return nil, fmt.Errorf("it has %d tests, want %d: did some vanish?", len(all), s.tests)
	}
	v, err := judge(s.name, all, exceptions, e.subtests(s))
	if err != nil {
		return nil, err
	}
	wanted, err := e.wanted(s)
	if err != nil {
		return nil, err
	}
	t := &tally{suite: s.name}
	var names []string
	for _, name := range all {
		switch {
		case !wanted(name):
		case v.standings[name] == isOut:
			t.leftOut()
		default:
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	fmt.Printf("==> suite %s: %d tests on %s\n", s.name, len(names), e.what)
	begin, done := time.Now(), 0
	err = e.runTests(ctx, s, names, v.skip, func(r result) {
		done++
		t.add(r, v.standings[r.name])
		e.show(r, fmt.Sprintf("%d/%d", done, len(names)), v.standings[r.name])
	})
	fmt.Printf("    suite %s took %d s\n", s.name, int(time.Since(begin).Seconds()))
	return t, err
}

// wanted tells which of the suite's tests are to be run.
func (e *environment) wanted(s suite) (func(name string) bool, error) {
	if e.settings.fast {
		return s.isFast()
	}
	return selection(e.settings.group, e.settings.match)
}

// subtests tells whether a suite's source names a subtest. Only source does:
// what is left out is not run, and a binary lists top-level tests only.
func (e *environment) subtests(s suite) func(name string) bool {
	return func(name string) bool {
		files, err := filepath.Glob(filepath.Join(s.from.copyOf(e.settings.scratch), s.dir, "*_test.go"))
		if err != nil {
			return false
		}
		quoted := []byte(`"` + strings.ReplaceAll(name, "_", " ") + `"`)
		return slices.ContainsFunc(files, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && bytes.Contains(text, quoted)
		})
	}
}

// list asks the binary for its tests.
func (e *environment) list(ctx context.Context, s suite) ([]string, error) {
	cmd := exec.CommandContext(ctx, e.builder.binary(s), "-test.list=.")
	cmd.Dir = filepath.Join(s.from.copyOf(e.settings.scratch), s.dir)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list tests: %w", err)
	}
	var names []string
	for _, l := range strings.Split(string(out), "\n") {
		if strings.HasPrefix(l, "Test") {
			names = append(names, strings.TrimSpace(l))
		}
	}
	slices.Sort(names)
	return names, nil
}

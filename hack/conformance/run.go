package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tries is how often a test that fails is run.
const tries = 2

// graceOverTimeout is for Go's own time limit of tests to strike first, since
// it shows where they hang.
const graceOverTimeout = 20 * time.Second

// runner runs single tests of one suite.
type runner struct {
	suite  suite
	binary string
	// root is the copy of the suite's module.
	root string
	// temp is where tests get their folders, out where their output goes.
	temp, out string
	// shown is where a test sees its folder.
	shown string
	env   []string
	flags []string
}

// result is how a test ended.
type result struct {
	name    string
	outcome outcome
	tries   int
	seconds float64
	log     string
}

// run runs one test, and once more if it fails.
func (r *runner) run(ctx context.Context, name string) (result, error) {
	res := result{name: name, outcome: failed}
	begin := time.Now()
	for res.tries < tries && res.outcome == failed && ctx.Err() == nil {
		res.tries++
		res.log = filepath.Join(r.out, name+".log")
		if res.tries > 1 {
			res.log = filepath.Join(r.out, fmt.Sprintf("%s.%d.log", name, res.tries))
		}
		if err := r.try(ctx, name, res.log); err != nil {
			return res, fmt.Errorf("run %s: %w", name, err)
		}
		text, err := os.ReadFile(res.log)
		if err != nil {
			return res, err
		}
		res.outcome = outcomeOf(name, string(text))
	}
	res.seconds = time.Since(begin).Seconds()
	return res, ctx.Err()
}

// try runs the test in a folder of its own. How it ended stands in the log: the
// exit code also tells of leaks that a binary looks for at its end, where some
// suites find their own when a single test is run.
func (r *runner) try(ctx context.Context, name, logName string) (err error) {
	private, err := os.MkdirTemp(r.temp, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(private)) }()
	dir, err := r.workFolder(private)
	if err != nil {
		return err
	}
	log, err := os.Create(logName)
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(ctx, r.suite.timeout+graceOverTimeout)
	defer cancel()
	argv := append([]string{r.binary, "-test.v", "-test.run=^" + name + "$", "-test.timeout=" + r.suite.timeout.String()}, r.flags...)
	cmd := isolated(ctx, private, r.shown, filepath.Join(r.shown, dir), argv)
	cmd.Env = append(append(os.Environ(), r.env...), "TMPDIR="+filepath.Join(r.shown, "t"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = cmd.Wait() // the log tells
	return nil
}

// workFolder lays out what a test finds around itself, and returns the folder
// to run it in, relative to private. Folders on the way from the module's root
// to the package are new, since tests leave files in them; all else are links.
//
//	t/                    for temporary files
//	w/                    where the module would be; beside it, a config file
//	w/m/DIR               the package
func (r *runner) workFolder(private string) (string, error) {
	if err := os.Mkdir(filepath.Join(private, "t"), 0o755); err != nil {
		return "", err
	}
	at, from := filepath.Join("w", "m"), r.root
	if err := os.MkdirAll(filepath.Join(private, at), 0o755); err != nil {
		return "", err
	}
	sample := filepath.Join(filepath.Dir(r.root), exampleConfigName)
	if err := os.Symlink(sample, filepath.Join(private, "w", exampleConfigName)); err != nil {
		return "", err
	}
	for _, step := range strings.Split(r.suite.dir, "/") {
		if err := linkAll(from, filepath.Join(private, at), step); err != nil {
			return "", err
		}
		at, from = filepath.Join(at, step), filepath.Join(from, step)
		if err := os.Mkdir(filepath.Join(private, at), 0o755); err != nil {
			return "", err
		}
	}
	return at, linkAll(from, filepath.Join(private, at), "")
}

// linkAll links what is in a folder, but for Go code and one name.
func linkAll(from, to, except string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == except || filepath.Ext(e.Name()) == ".go" {
			continue
		}
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

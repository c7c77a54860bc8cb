package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// environment is what all suites of one run share.
type environment struct {
	settings settings
	builder  builder
	// what names the server and its engine.
	what string
	// out has the tests' output, temp their files, bins the binaries that etcd's
	// tests start: the server under etcd's name, etcdctl, etcdutl.
	out, temp, bins string
	shown           string
	lock            *os.File
}

func newEnvironment(s settings) (e *environment, err error) {
	for _, p := range []*string{&s.server, &s.etcdctl, &s.etcdutl, &s.scratch} {
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, err
		}
	}
	e = &environment{settings: s, what: filepath.Base(s.server)}
	if s.engine != "" {
		e.what += "-" + s.engine
	}
	e.builder = builder{scratch: s.scratch, say: func(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }}
	e.out, e.temp, e.bins = filepath.Join(s.scratch, "out", e.what), filepath.Join(s.scratch, "t"), filepath.Join(s.scratch, "run-"+e.what)
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if e.shown, err = shownFolder(self, s.scratch, s.server, s.etcdctl, s.etcdutl); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.scratch, 0o755); err != nil {
		return nil, err
	}
	if err := e.takeLock(); err != nil {
		return nil, err
	}
	return e, errors.Join(os.RemoveAll(e.temp), os.MkdirAll(e.temp, 0o755), os.MkdirAll(e.out, 0o755), e.linkBins())
}

// takeLock keeps a second run out of the scratch folder for as long as this
// process lives.
func (e *environment) takeLock() (err error) {
	if e.lock, err = os.OpenFile(filepath.Join(e.settings.scratch, "lock"), os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return err
	}
	if syscall.Flock(int(e.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return nil
	}
	fmt.Println("    waiting for another run in", e.settings.scratch)
	return syscall.Flock(int(e.lock.Fd()), syscall.LOCK_EX)
}

func (e *environment) close() {
	_ = os.RemoveAll(e.temp) // the next run tries again
	e.lock.Close()
}

func (e *environment) linkBins() error {
	if err := errors.Join(os.RemoveAll(e.bins), os.MkdirAll(e.bins, 0o755)); err != nil {
		return err
	}
	for name, target := range map[string]string{"etcd": e.settings.server, "etcdctl": e.settings.etcdctl, "etcdutl": e.settings.etcdutl} {
		if info, err := os.Stat(target); err != nil || info.Mode()&0o111 == 0 {
			return fmt.Errorf("%s is no program: %w", target, err)
		}
		if err := os.Symlink(target, filepath.Join(e.bins, name)); err != nil {
			return err
		}
	}
	return nil
}

func (e *environment) runner(s suite, skip string) (*runner, error) {
	r := &runner{
		suite: s, binary: e.builder.binary(s), root: s.from.copyOf(e.settings.scratch),
		temp: e.temp, out: filepath.Join(e.out, s.name), shown: e.shown,
		env: []string{"CONFORMANCE_SERVER=" + e.settings.server},
	}
	if e.settings.fast {
		r.env = append(r.env, s.fastEnv...)
	}
	if e.settings.engine != "" {
		r.env = append(r.env, "ETCD_STORAGE_ENGINE="+e.settings.engine)
	}
	if s.etcdBins {
		r.flags = append(r.flags, "-bin-dir="+e.bins)
	}
	if skip != "" {
		r.flags = append(r.flags, "-test.skip="+skip)
	}
	return r, errors.Join(os.RemoveAll(r.out), os.MkdirAll(r.out, 0o755))
}

// runTests runs tests side by side and reports each when it has ended. An error
// is none of a test's: no further test is begun.
func (e *environment) runTests(ctx context.Context, s suite, names []string, skip string, report func(result)) error {
	r, err := e.runner(s, skip)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next, done := make(chan string), make(chan result)
	var workers sync.WaitGroup
	for range e.settings.parallel {
		workers.Go(func() {
			for name := range next {
				res, err := r.run(ctx, name)
				if err != nil {
					cancel(err)
					return
				}
				done <- res
			}
		})
	}
	go func() {
		defer close(next)
		for _, name := range names {
			select {
			case next <- name:
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() { workers.Wait(); close(done) }()
	for res := range done {
		report(res)
	}
	return context.Cause(ctx)
}

// failureLines is how much of a failed test's output is shown.
const failureLines = 25

func (e *environment) show(r result, count string, as standing) {
	note := ""
	if r.tries > 1 {
		note = fmt.Sprintf("  (try %d)", r.tries)
	}
	if r.outcome == failed && as == mayFail {
		note += "  (may fail)"
	}
	fmt.Printf("%7s  %s %6.1f s  %s%s\n", count, r.outcome, r.seconds, r.name, note)
	if r.outcome != failed || as == mayFail {
		return
	}
	if text, err := os.ReadFile(r.log); err == nil {
		fmt.Println(lastLines(string(text), failureLines))
	}
}

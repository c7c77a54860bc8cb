package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// builder makes test binaries in the scratch folder and keeps them until what
// they are made of changes.
type builder struct {
	scratch string
	say     func(format string, args ...any)
}

func (b builder) binary(s suite) string { return filepath.Join(b.scratch, "bin", s.name+".test") }

// build makes the binaries of the suites.
func (b builder) build(ctx context.Context, wanted []suite) error {
	for _, s := range wanted {
		if b.isFresh(s) {
			continue
		}
		dir, err := b.copy(ctx, s.from)
		if err != nil {
			return fmt.Errorf("suite %s: %w", s.name, err)
		}
		begin := time.Now()
		b.say("compiling suite %s", s.name)
		if err := b.compile(ctx, s, dir); err != nil {
			return fmt.Errorf("suite %s: %w", s.name, err)
		}
		b.say("compiled suite %s in %d s", s.name, int(time.Since(begin).Seconds()))
	}
	return nil
}

// stamp changes with everything that a module's copy is made of.
func (m module) stamp() string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(m.path + m.version + m.sum), editor, serverProcess, exampleConfig} {
		fmt.Fprintf(h, "%d\n%s", len(part), part)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func isStamped(file, stamp string) bool {
	b, err := os.ReadFile(file)
	return err == nil && string(b) == stamp
}

func (b builder) isFresh(s suite) bool {
	_, err := os.Stat(b.binary(s))
	return err == nil && isStamped(b.binary(s)+".stamp", s.from.stamp()) && isStamped(s.from.copyOf(b.scratch)+".stamp", s.from.stamp())
}

// copy returns the folder of the module's edited copy.
func (b builder) copy(ctx context.Context, m module) (string, error) {
	dir := m.copyOf(b.scratch)
	if isStamped(dir+".stamp", m.stamp()) {
		return dir, nil
	}
	b.say("fetching %s %s", m.path, m.version)
	from, err := m.download(ctx, b.scratch)
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.RemoveAll(dir), copyTree(from, dir)); err != nil {
		return "", fmt.Errorf("copy %s: %w", m.path, err)
	}
	if err := m.edit(ctx, dir); err != nil {
		return "", err
	}
	return dir, os.WriteFile(dir+".stamp", []byte(m.stamp()), 0o644)
}

func (b builder) compile(ctx context.Context, s suite, dir string) error {
	if err := os.MkdirAll(filepath.Dir(b.binary(s)), 0o755); err != nil {
		return err
	}
	if _, err := goCommand(ctx, dir, "test", "-c", "-vet=off", "-tags="+s.tags, "-o", b.binary(s), "./"+s.dir); err != nil {
		return err
	}
	return os.WriteFile(b.binary(s)+".stamp", []byte(s.from.stamp()), 0o644)
}

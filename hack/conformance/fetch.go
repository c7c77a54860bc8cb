package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// goCommand runs the Go client in a folder, for modules that are not this
// repository's: whatever Go is installed has to do, as its version is for all
// else here, and go.mod files of copies may be completed.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -buildvcs=false", "GOTOOLCHAIN=local", "GOWORK=off", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out, nil
}

// download returns the module's folder in Go's module cache, which must not be
// changed.
func (m module) download(ctx context.Context, scratch string) (string, error) {
	dir := filepath.Join(scratch, "fetch")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module fetch\n"), 0o644); err != nil {
		return "", err
	}
	out, err := goCommand(ctx, dir, "mod", "download", "-json", m.path+"@"+m.version)
	if err != nil {
		return "", err
	}
	var answer struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return "", err
	}
	if answer.Sum != m.sum {
		return "", fmt.Errorf("%s@%s has the hash %s, want %s", m.path, m.version, answer.Sum, m.sum)
	}
	return answer.Dir, nil
}

// copyOf is where the edited copy of the module is.
func (m module) copyOf(scratch string) string {
	return filepath.Join(scratch, "src", strings.ReplaceAll(strings.TrimSuffix(m.path, "/v3"), "/", "-"))
}

// copyTree copies a folder of read-only files to one that may be edited.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !d.Type().IsRegular() {
			return errors.New("not a file: " + p)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, info.Mode()|0o600)
	})
}

//go:build !linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

const insideWord = "inside-namespaces"

var errNeedsLinux = errors.New("the suites run in namespaces, which only Linux has")

func isolated(ctx context.Context, _, _, _ string, argv []string) *exec.Cmd {
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

func runInside([]string) int {
	fmt.Fprintln(os.Stderr, "conformance:", errNeedsLinux)
	return 2
}

func shownFolder(...string) (string, error) { return "", errNeedsLinux }

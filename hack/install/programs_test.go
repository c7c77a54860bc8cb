package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

// programs is the folder that programs are built into, once a run.
var programs string

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	var err error
	if programs, err = os.MkdirTemp("", "metastore"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(programs) // the system cleans up what is left
	os.Exit(code)
}

// binary is one of our programs.
type binary string

// program builds one of our programs, with the engines of this test run.
func program(t *testing.T, name string) binary {
	t.Helper()
	file := filepath.Join(programs, filepath.Base(name))
	if _, err := os.Stat(file); err == nil {
		return binary(file)
	}
	cmd := exec.Command("go", "build", "-tags", buildTags, "-o", file, name)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return binary(file)
}

// help of a command lists its commands and flags.
func (b binary) help(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(string(b), append(command, "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v --help: %v\n%s", b, command, err, out)
	}
	return string(out)
}

// accepts says that a command line of the server names commands and flags that
// there are.
func (b binary) accepts(t *testing.T, page string, words []string) {
	t.Helper()
	var command []string
	for _, w := range words {
		help := b.help(t, command...)
		name, _, _ := strings.Cut(w, "=")
		switch {
		case strings.HasPrefix(w, "--") && !strings.Contains(help, name):
			t.Errorf("%s: metastore %v has no flag %s", page, command, name)
		case !strings.HasPrefix(w, "--") && strings.Contains(help, "\n  "+w+" "):
			command = append(command, w)
		}
	}
	if !strings.HasPrefix(words[0], "--") && len(command) == 0 {
		t.Errorf("%s: metastore has no command %s", page, words[0])
	}
}

package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// The parts that go into the copies, and what puts them there: a copy is made
// anew when any of them changes.
var (
	//go:embed insert/server_process.go.txt
	serverProcess []byte
	//go:embed insert/etcd.conf.yml
	exampleConfig []byte
	//go:embed edit.go
	editor []byte
)

// edit prepares the copy of a module for building.
func (m module) edit(ctx context.Context, dir string) error {
	if m == etcdTests {
		return editEtcdTests(ctx, dir)
	}
	return editAPIServer(dir)
}

// editEtcdTests takes the sibling modules, which this one names by path, by
// version. One of them, a cache for clients, is published nowhere, and only a
// test of it needs it.
func editEtcdTests(ctx context.Context, dir string) error {
	if err := os.Remove(filepath.Join(dir, "integration/cache_test.go")); err != nil {
		return err
	}
	args := []string{"mod", "edit", "-droprequire=go.etcd.io/etcd/cache/v3"}
	for _, m := range []string{"api", "cache", "client/pkg", "client", "etcdctl", "etcdutl", "pkg", "server"} {
		args = append(args, "-dropreplace=go.etcd.io/etcd/"+m+"/v3")
	}
	if _, err := goCommand(ctx, dir, args...); err != nil {
		return err
	}
	// A test starts a member with the file of this name two folders up, which
	// in etcd's repository is outside of the module.
	return os.WriteFile(filepath.Join(filepath.Dir(dir), exampleConfigName), exampleConfig, 0o644)
}

const exampleConfigName = "etcd.conf.yml.sample"

// editAPIServer has the storage tests start a process where they embed etcd.
func editAPIServer(dir string) error {
	pkg := filepath.Join(dir, "pkg/storage/etcd3/testserver")
	if err := os.WriteFile(filepath.Join(pkg, "server_process.go"), serverProcess, 0o644); err != nil {
		return err
	}
	file := filepath.Join(pkg, "test_server.go")
	return replaceIn(file, []replacement{
		{`\te, err := embed\.StartEtcd\(cfg\)\n(?s:.*?)\n\t\}\(\)\n`, "\tendpoints := startProcess(t, cfg)\n"},
		{`e\.Server\.Cluster\(\)\.ClientURLs\(\)`, "endpoints"},
	})
}

// replacement is made exactly once, so that another version of the module fails
// here instead of building something else.
type replacement struct{ pattern, with string }

func replaceIn(file string, replacements []replacement) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, r := range replacements {
		re := regexp.MustCompile(r.pattern)
		if n := len(re.FindAllIndex(text, -1)); n != 1 {
			return fmt.Errorf("edit %s: %q is there %d times, want once", file, r.pattern, n)
		}
		text = re.ReplaceAllLiteral(text, []byte(r.with))
	}
	return os.WriteFile(file, text, 0o644)
}

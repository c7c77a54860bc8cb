package hack

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "metastore.io/metastore"

// rooms lists, for each room of the tree, the rooms that its production code
// may import. A package belongs to the room with the longest matching prefix
// and may always import its own room. "server/..." stands for every room below
// server that is not for tests only.
var rooms = map[string][]string{
	"api": {},

	"server/disk":              {},
	"server/engine":            {"server/disk"},
	"server/engine/memory":     {"server/engine", "server/disk"},
	"server/engine/rocksdb":    {"server/engine", "server/disk"},
	"server/engine/enginetest": {"server/engine", "server/disk"},
	"server/raftlog":           {"server/disk"},
	"server/mvcc":              {"server/engine"},
	"server/lease":             {"server/engine"},
	"server/auth":              {"server/engine"},
	"server/state":             {"server/mvcc", "server/lease", "server/auth", "server/engine"},
	"server/etcdfile":          {"server/state", "server/mvcc", "server/lease", "server/auth", "server/engine"},
	"server/watch":             {"server/mvcc", "server/state"},
	"server/replica":           {"server/state", "server/raftlog", "server/engine", "server/disk"},
	"server/peer":              {"server/state", "server/raftlog", "server/engine", "server/disk"},
	"server/host": {"server/replica", "server/peer", "server/raftlog", "server/state", "server/watch",
		"server/lease", "server/engine", "server/disk"},
	"server/rpc":   {"server/watch", "server/auth", "server/state", "server/lease", "server/mvcc", "server/replica", "server/etcdfile"},
	"server/proxy": {},
	"server/bench": {},
	"server/node":  {"server/..."},
	// backup speaks to members as any client does, and makes data dirs as node does.
	"server/backup": {"server/node", "server/etcdfile", "server/disk"},
	"server/cmd":    {"server/..."},
	"server/sim":    {"server/...", "server/engine/enginetest"},

	"server/difftest": {"server/..."},

	"operator/tuning":     {"api"},
	"operator/plan":       {"api"},
	"operator/backup":     {"api"},
	"operator/restore":    {"operator/plan", "api"},
	"operator/resources":  {"api", "operator/tuning"},
	"operator/member":     {},
	"operator/pki":        {},
	"operator/controller": {"operator/plan", "operator/backup", "operator/restore", "operator/resources", "operator/member", "operator/tuning", "operator/pki", "api"},
	"operator/cmd":        {"operator/controller", "operator/plan", "operator/backup", "operator/restore", "operator/resources", "operator/member", "operator/tuning", "operator/pki", "api"},

	"hack": {},
	"e2e":  {"api", "operator/pki"},
}

// wires are the rooms in which an engine may be called by its name.
var wires = []string{"server/node", "server/cmd", "server/sim"}

// testsOnly are rooms that production code must not reach.
var testsOnly = []string{"server/engine/enginetest", "server/sim", "server/difftest"}

// oracle is etcd's server: the peer to compare with, not a dependency. The
// exceptions are message packages and the proxies that two subcommands offer.
const oracle = "go.etcd.io/etcd/server/v3"

var oracleExceptions = []string{
	oracle + "/etcdserver/api/v3lock/v3lockpb",
	oracle + "/etcdserver/api/v3election/v3electionpb",
	oracle + "/proxy/grpcproxy",
	oracle + "/proxy/tcpproxy", // a balancer of TCP connections, which needs nothing else of etcd's
}

// topLevel is what a user finds in the root; hidden files other than .ci and
// what make leaves behind do not count.
var (
	topLevel = []string{
		".ci", "ARCHITECTURE.md", "CHANGELOG.md", "Dockerfile", "LICENSE", "Makefile", "PROJECT", "README.md",
		"api", "charts", "config", "docs", "e2e", "go.mod", "go.sum", "hack", "operator", "server",
	}
	leftByMake = []string{"bin", "dist"}
)

// importLine is one import of one file, with folder relative to the root.
type importLine struct {
	file, folder, target string
	test                 bool
}

// violation returns the rule that the import breaks, or "".
func violation(l importLine) string {
	own, ours := strings.CutPrefix(l.target, module+"/")
	switch {
	case ours:
		return ownViolation(l, own)
	case under(l.folder, "server") && (under(l.target, "k8s.io") || under(l.target, "sigs.k8s.io")):
		return "server never imports Kubernetes"
	case !l.test && under(l.target, oracle) && !slices.ContainsFunc(oracleExceptions, func(e string) bool { return under(l.target, e) }):
		return "etcd's server is no dependency of production code"
	case under(l.target, "github.com/linxGnu/grocksdb") && !under(l.folder, "server/engine/rocksdb"):
		return "only server/engine/rocksdb talks to RocksDB"
	}
	return ""
}

// ownViolation judges an import of this module's own package.
func ownViolation(l importLine, target string) string {
	switch {
	case under(l.folder, "api") && !under(target, "api"):
		return "api imports nothing of ours"
	case under(l.folder, "server") && !under(target, "server"):
		return "server imports nothing outside server"
	case under(l.folder, "operator") && under(target, "server"):
		return "operator and server never import each other"
	case l.test:
		return "" // a test may reach across the rooms of its own half
	}
	from, to := room(l.folder), room(target)
	if from == "" {
		return fmt.Sprintf("package %s belongs to no room: give it a rule in hack/layout_test.go", l.folder)
	}
	if from == to {
		return ""
	}
	if slices.Contains(rooms[from], to) {
		return ""
	}
	if to != "" && slices.Contains(rooms[from], "server/...") && under(to, "server") && !slices.Contains(testsOnly, to) {
		return ""
	}
	if isEngine(to) && !slices.Contains(wires, from) {
		return "an engine is named only where things are wired (server/node)"
	}
	return fmt.Sprintf("%s may import %v only", from, rooms[from])
}

func isEngine(room string) bool {
	return strings.HasPrefix(room, "server/engine/") && !slices.Contains(testsOnly, room)
}

// room returns the longest key of rooms that holds folder, or "".
func room(folder string) string {
	for f := folder; f != "." && f != "/"; f = path.Dir(f) {
		if _, ok := rooms[f]; ok {
			return f
		}
	}
	return ""
}

// under reports whether p is root or lies below it.
func under(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

// readImports parses the import blocks of every Go file of the module, whatever
// its build tags; nested modules are other houses with their own rules.
func readImports(t *testing.T, root string) []importLine {
	t.Helper()
	var lines []importLine
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipFolder(root, p)
		}
		if filepath.Ext(p) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		for _, spec := range file.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: import %s: %w", rel, spec.Path.Value, err)
			}
			lines = append(lines, importLine{file: rel, folder: path.Dir(rel), target: target, test: strings.HasSuffix(rel, "_test.go")})
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read imports: %v", err)
	}
	return lines
}

// skipFolder returns fs.SkipDir for folders that hold no code of this module.
func skipFolder(root, p string) error {
	name := filepath.Base(p)
	if p == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || name == "testdata" || slices.Contains(leftByMake, name) {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

// strangers returns what is in the root and should not be, and what should be
// and is not.
func strangers(names []string) (extra, missing []string) {
	for _, n := range names {
		hidden := strings.HasPrefix(n, ".") && n != ".ci"
		if !hidden && !slices.Contains(leftByMake, n) && !slices.Contains(topLevel, n) {
			extra = append(extra, n)
		}
	}
	for _, n := range topLevel {
		if !slices.Contains(names, n) {
			missing = append(missing, n)
		}
	}
	return extra, missing
}

func TestImportsKeepTheRules(t *testing.T) {
	lines := readImports(t, "..")
	if len(lines) == 0 {
		t.Fatal("no import found: the walk looks in the wrong place")
	}
	for _, l := range lines {
		if rule := violation(l); rule != "" {
			t.Errorf("%s imports %s: %s", l.file, l.target, rule)
		}
	}
}

func TestTopLevelIsTheUsers(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	extra, missing := strangers(names)
	if len(extra) > 0 || len(missing) > 0 {
		t.Errorf("top level: unexpected %q, missing %q", extra, missing)
	}
}

func TestCheckerFindsViolations(t *testing.T) {
	own := func(p string) string { return module + "/" + p }
	for _, c := range []struct {
		folder, target string
		test, bad      bool
	}{
		{"server/mvcc", own("server/engine"), false, false},
		{"server/mvcc", own("server/engine/memory"), false, true},
		{"server/mvcc", own("server/engine/memory"), true, false},
		{"server/mvcc", own("server/replica"), false, true},
		{"server/engine", own("server/raftlog"), false, true},
		{"server/engine/memory", own("server/engine"), false, false},
		{"server/rpc", own("server/replica"), false, false},
		{"server/rpc", own("server/host"), false, true},
		{"server/node", own("server/engine/rocksdb"), false, false},
		{"server/node", own("server/sim"), false, true},
		{"server/cmd/metastore", own("server/node"), false, false},
		{"server/brandnew", own("server/node"), false, true},
		{"server/node", own("api/v1alpha1"), true, true},
		{"server/node", "k8s.io/apimachinery/pkg/util/wait", true, true},
		{"server/node", "sigs.k8s.io/yaml", false, true},
		{"server/node", "github.com/linxGnu/grocksdb", false, true},
		{"server/engine/rocksdb", "github.com/linxGnu/grocksdb", false, false},
		{"server/rpc", oracle + "/etcdserver", false, true},
		{"server/rpc", oracle + "/etcdserver", true, false},
		{"server/rpc", oracle + "/etcdserver/api/v3lock/v3lockpb", false, false},
		{"api/v1alpha1", own("operator/tuning"), true, true},
		{"operator/plan", own("api/v1alpha1"), false, false},
		{"operator/plan", own("operator/resources"), false, true},
		{"operator/controller", own("operator/plan"), false, false},
		{"operator/controller", own("server/mvcc"), true, true},
		{"operator/cmd/operator", own("operator/controller"), false, false},
	} {
		rule := violation(importLine{folder: c.folder, target: c.target, test: c.test})
		if (rule != "") != c.bad {
			t.Errorf("%s -> %s (test %v): got %q, want a violation: %v", c.folder, c.target, c.test, rule, c.bad)
		}
	}
}

func TestCheckerFindsStrangers(t *testing.T) {
	extra, missing := strangers(append([]string{"bin", ".git", "vendor"}, topLevel[1:]...))
	if !slices.Equal(extra, []string{"vendor"}) || !slices.Equal(missing, topLevel[:1]) {
		t.Errorf("got unexpected %q, missing %q", extra, missing)
	}
}

package main

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metastore.io/metastore/server/engine/rocksdb"
	"metastore.io/metastore/server/node"
)

// Each bad start ends with its exit code and one plain sentence.
func TestRefusedSettings(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"unknown flag", []string{"--no-such-flag"}, node.ExitUsage, "unknown flag: --no-such-flag"},
		{"argument", []string{"put"}, node.ExitUsage, `"put" is not a valid command line argument`},
		{"engine", []string{"--storage-engine=bolt"}, node.ExitUsage, "--storage-engine=bolt is not valid: rocksdb or memory is allowed"},
		{"scheme", []string{"--listen-peer-urls=tcp://127.0.0.1:1"}, node.ExitUsage, "--listen-peer-urls=tcp://127.0.0.1:1 is not valid"},
		{"no port", []string{"--listen-client-urls=http://127.0.0.1", "--advertise-client-urls=http://127.0.0.1:1"}, node.ExitUsage, "URLs with a host and a port"},
		{"host name", []string{"--listen-peer-urls=http://example.test:2380"}, node.ExitUsage, "URLs with an IP address"},
		{"unparsable", []string{"--listen-peer-urls=http://%zz"}, node.ExitUsage, "--listen-peer-urls=http://%zz is not valid"},
		{"election", []string{"--election-timeout=200"}, node.ExitUsage, "--election-timeout=200 is not valid: at least five times the heartbeat interval, 500 ms"},
		{"not a number", []string{"--snapshot-count=many"}, node.ExitUsage, `"--snapshot-count"`},
		{"compaction", []string{"--auto-compaction-retention=soon"}, node.ExitUsage, "--auto-compaction-retention=soon is not valid"},
		{"compaction mode", []string{"--auto-compaction-mode=daily"}, node.ExitUsage, "--auto-compaction-mode=daily is not valid: periodic or revision is allowed"},
		{"log level", []string{"--log-level=loud"}, node.ExitUsage, "--log-level=loud is not valid"},
		{"not in the list", []string{"--name=x", "--initial-cluster=y=http://127.0.0.1:2380"}, node.ExitUsage, `a list that contains this member's name, "x"`},
		{"advertise", []string{"--listen-client-urls=http://127.0.0.1:0"}, node.ExitUsage, "--advertise-client-urls is required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMember(t, "m", node.EngineMemory)
			m.runWith(t, c.args...)
			if code := m.exitCode(10 * time.Second); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if out := m.out.String(); !strings.Contains(out, c.says) || !strings.Contains(out, "metastore: ") {
				t.Errorf("it says:\n%s\nwant: %s", out, c.says)
			}
		})
	}
}

// runWith starts the member with exactly these flags, beside a data dir.
func (m *member) runWith(t *testing.T, args ...string) {
	t.Helper()
	m.initial, m.extra = "", nil
	m.startArgs(append([]string{"--data-dir=" + m.dir}, args...))
}

func TestRocksDBKnobsAreChecked(t *testing.T) {
	if !rocksdb.Built {
		m := newMember(t, "m", node.EngineRocksDB)
		m.start()
		if code := m.exitCode(10 * time.Second); code != node.ExitUsage || !strings.Contains(m.out.String(), "built without RocksDB") {
			t.Fatalf("exit code %d:\n%s", code, m.out)
		}
		return
	}
	m := newMember(t, "m", node.EngineRocksDB)
	m.extra = []string{"--rocksdb-level0-slowdown-writes-trigger=2", "--rocksdb-level0-file-num-compaction-trigger=4"}
	m.start()
	if code := m.exitCode(10 * time.Second); code != node.ExitUsage || !strings.Contains(m.out.String(), "Level0SlowdownWritesTrigger") {
		t.Fatalf("exit code %d:\n%s", code, m.out)
	}
}

func TestConfigFile(t *testing.T) {
	m := newMember(t, "m", node.EngineMemory)
	file := filepath.Join(t.TempDir(), "m.yaml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("name: from-file\ndata-dir: " + m.dir + "\nstorage-engine: memory\n" +
		"listen-client-urls: http://" + m.client + "\nadvertise-client-urls: http://" + m.client + "\n" +
		"listen-peer-urls: http://" + m.peer + "\ninitial-advertise-peer-urls: http://" + m.peer + "\n" +
		"initial-cluster: from-file=http://" + m.peer + "\n")
	m.startArgs([]string{"--config-file=" + file})
	m.waitServing()
	list, err := client(t, m).MemberList(within(t, 5*time.Second))
	if err != nil || list.Members[0].Name != "from-file" {
		t.Fatalf("%v, %v", list, err)
	}
	m.terminate()

	write("nmae: x\n")
	m.startArgs([]string{"--config-file=" + file})
	if code := m.exitCode(10 * time.Second); code != node.ExitUsage || !strings.Contains(m.out.String(), `"nmae" is not a setting`) {
		t.Fatalf("exit code %d:\n%s", code, m.out)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("ETCD_NAME", "from-env")
	t.Setenv("ETCD_STORAGE_ENGINE", "bolt")
	m := newMember(t, "m", node.EngineMemory)
	m.runWith(t)
	if code := m.exitCode(10 * time.Second); code != node.ExitUsage || !strings.Contains(m.out.String(), "--storage-engine=bolt") {
		t.Fatalf("exit code %d:\n%s", code, m.out)
	}
}

// What is found in the data dir decides whether a member may start.
func TestDataDir(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(t *testing.T, m *member)
		code int
		says string
	}{
		{"somebody else's files", func(t *testing.T, m *member) {
			m.dir = filepath.Join(t.TempDir(), "other")
			if err := os.MkdirAll(filepath.Join(m.dir, "member", "wal"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, node.ExitForeign, "no MetaStore marker"},
		{"another token", func(_ *testing.T, m *member) {
			m.extra = []string{"--initial-cluster-token=other"}
		}, node.ExitForeign, `belongs to the cluster with the token "etcd-cluster"`},
		{"newer format", func(t *testing.T, m *member) {
			rewriteMarker(t, m, `"format":1`, `"format":99`)
		}, node.ExitNewer, "run a newer version"},
		{"damaged marker", func(t *testing.T, m *member) {
			damage(t, filepath.Join(m.dir, "MARKER"), 20)
		}, node.ExitCorrupt, "does not match its checksum"},
		{"log gone", func(t *testing.T, m *member) {
			if err := os.RemoveAll(filepath.Join(m.dir, "log")); err != nil {
				t.Fatal(err)
			}
		}, node.ExitCorrupt, "the log is empty"},
		{"engine pointer damaged", func(t *testing.T, m *member) {
			if err := os.WriteFile(filepath.Join(m.dir, "engine", "CURRENT"), []byte("first\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, node.ExitCorrupt, "not the number of an engine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMember(t, "m", node.EngineMemory)
			m.start()
			m.waitServing()
			m.terminate()
			c.harm(t, m)
			m.start()
			if code := m.exitCode(10 * time.Second); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(m.out.String(), c.says) {
				t.Errorf("it says:\n%s\nwant: %s", tail(m.out.String(), 3), c.says)
			}
		})
	}
}

func TestDataDirInUse(t *testing.T) {
	m := newMember(t, "m", node.EngineMemory)
	m.start()
	m.waitServing()
	again := newMember(t, "m", node.EngineMemory)
	again.dir = m.dir
	again.start()
	if code := again.exitCode(10 * time.Second); code != node.ExitLocked || !strings.Contains(again.out.String(), "in use by another process") {
		t.Fatalf("exit code %d:\n%s", code, again.out)
	}
}

func TestEngineOfDataDirStays(t *testing.T) {
	if !rocksdb.Built {
		t.Log("one engine in this build: another one cannot be asked for")
		return
	}
	m := newMember(t, "m", node.EngineRocksDB)
	m.start()
	m.waitServing()
	m.terminate()
	m.engine = node.EngineMemory
	m.start()
	if code := m.exitCode(10 * time.Second); code != node.ExitForeign || !strings.Contains(m.out.String(), "was written by the rocksdb engine") {
		t.Fatalf("exit code %d:\n%s", code, m.out)
	}
}

// rewriteMarker changes the marker as a newer version would write it, checksum
// included.
func rewriteMarker(t *testing.T, m *member, old, replacement string) {
	t.Helper()
	name := filepath.Join(m.dir, "MARKER")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(b), "\n")
	text = strings.Replace(text, old, replacement, 1)
	sum := crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli))
	if err := os.WriteFile(name, fmt.Appendf(nil, "%s\n%08x\n", text, sum), 0o600); err != nil {
		t.Fatal(err)
	}
}

func damage(t *testing.T, file string, at int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 4
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

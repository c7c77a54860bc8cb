package node

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/etcdfile"
	"metastore.io/metastore/server/state"
)

// emptySnapshot is a file of a store that was never written.
func emptySnapshot(t *testing.T) string {
	t.Helper()
	e, err := memory.Opener{}.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m, err := state.Open(state.Options{Engine: e, Group: group})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Bootstrap(7, []state.Member{{ID: 1, PeerURLs: []string{"http://a:1"}}}); err != nil {
		t.Fatal(err)
	}
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	tmp, err := etcdfile.Write(t.Context(), t.TempDir(), snap)
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.Close()
	var b bytes.Buffer
	if err := tmp.Stream(func(chunk []byte, _ int64) error { b.Write(chunk); return nil }); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func memoryConfig(t *testing.T) Config {
	c := DefaultConfig()
	c.StorageEngine, c.DataDir = EngineMemory, filepath.Join(t.TempDir(), "data")
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenClientURLs, c.ListenPeerURLs = local, local
	return c
}

// A restore that is cut off leaves a dir on which no member starts, and which
// the next restore takes.
func TestRestoreCutOff(t *testing.T) {
	c, file := memoryConfig(t), emptySnapshot(t)
	d, err := openDataDir(disk.OS(), c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	err = d.writeMarker(marker{Format: markerFormat, Engine: EngineMemory, ClusterID: "1", MemberID: "1", Restoring: true})
	if err := errors.Join(err, os.Mkdir(filepath.Join(c.DataDir, engineDir), 0o700), d.close()); err != nil {
		t.Fatal(err)
	}
	var exit *ExitError
	if _, err := Start(t.Context(), c); !errors.As(err, &exit) || exit.Code != ExitCorrupt || !strings.Contains(err.Error(), "a restore into the data dir") {
		t.Fatalf("a member starts on half a restore: %v", err)
	}
	if err := Restore(t.Context(), c, RestoreOptions{File: file}); err != nil {
		t.Fatal(err)
	}
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), c, RestoreOptions{File: file}); !errors.As(err, &exit) || exit.Code != ExitForeign {
		t.Errorf("a restore over a member's data: %v", err)
	}
}

// A restore that fails leaves the data dir as empty as it was.
func TestRestoreFails(t *testing.T) {
	c, file := memoryConfig(t), emptySnapshot(t)
	if err := os.MkdirAll(filepath.Join(c.DataDir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Restore(ctx, c, RestoreOptions{File: file}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled restore ends with %v", err)
	}
	names, err := os.ReadDir(c.DataDir)
	if err != nil || len(names) != 1 || names[0].Name() != "lost+found" {
		t.Errorf("the data dir holds %v: %v", names, err)
	}
	if err := Restore(t.Context(), c, RestoreOptions{File: file}); err != nil {
		t.Error(err)
	}
}

func TestTmpIsClearedAtStart(t *testing.T) {
	c := memoryConfig(t)
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(c.DataDir, tmpDir, "snapshot-1.db")
	if err := errors.Join(os.MkdirAll(filepath.Dir(left), 0o700), os.WriteFile(left, nil, 0o600), n.Stop(t.Context())); err != nil {
		t.Fatal(err)
	}
	if n, err = Start(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	defer n.Stop(t.Context())
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a snapshot of an earlier run is left: %v", err)
	}
}

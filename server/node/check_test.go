package node

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metastore.io/metastore/server/disk"
)

// hashDir covers the names, sizes, modes, times and bytes of all files.
func hashDir(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d %s %s\n", name, info.Size(), info.Mode(), info.ModTime())
		if e.IsDir() {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		_, _ = h.Write(b) // a hash takes everything
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// checkDir is Check, with everything that it has found.
func checkDir(t *testing.T, dir string) (content, error) {
	t.Helper()
	k, err := newChecker(dir)
	if err != nil {
		t.Fatal(err)
	}
	var found content
	if err = k.run(0); err == nil {
		found, err = contentOf(k.n.machine)
	}
	return found, k.close(err)
}

// Whole data dirs, closed in order, killed and with a received state, are found
// whole with all that they hold, and stay as they are.
func TestCheckOfWholeDirs(t *testing.T) {
	for _, engine := range damageEngines() {
		for _, d := range storedDirs(t, engine) {
			t.Run(d.name, func(t *testing.T) {
				before := hashDir(t, d.dir)
				r, err := Check(CheckOptions{DataDir: d.dir})
				if err != nil {
					t.Fatal(err)
				}
				got := content{
					fmt.Sprintf("revision %d, compacted %d", r.Revision, r.CompactRevision),
					fmt.Sprintf("hash %08x at %d, compacted %d", r.Hash, r.HashRevision, r.CompactRevision),
				}
				if diff := diffContent(got, d.truth[:2]); diff != "" {
					t.Error(diff)
				}
				pairs := 0
				for _, line := range d.truth {
					if strings.HasPrefix(line, "pair ") {
						pairs++
					}
				}
				if int(r.Keys) != pairs || r.Leases != 6 || r.Users != 2 || r.Roles != 2 || !r.AuthEnabled || r.Members != 1 {
					t.Errorf("of %d pairs it reports %+v", pairs, r)
				}
				if r.Engine != engine || r.Incarnations < 1 || r.AppliedIndex != r.LastIndex || r.AppliedIndex < r.FlushedIndex {
					t.Errorf("it reports %+v", r)
				}
				if hashDir(t, d.dir) != before {
					t.Error("the data dir has changed")
				}
				old, err := Check(CheckOptions{DataDir: d.dir, Revision: r.Revision - 1})
				if err != nil || old.Hash == r.Hash || old.HashRevision != r.Revision-1 {
					t.Errorf("at the revision before it reports %+v, %v", old, err)
				}
				wantCode(t, d.dir, CheckOptions{DataDir: d.dir, Revision: r.Revision + 1}, ExitUsage, "")
			})
		}
	}
}

// wantCode wants that Check refuses with an exit code and a text, and that it
// changes nothing.
func wantCode(t *testing.T, dir string, o CheckOptions, code int, text string) {
	t.Helper()
	before := hashDir(t, dir)
	_, err := Check(o)
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != code || !strings.Contains(err.Error(), text) {
		t.Errorf("check: %v, want exit code %d and %q", err, code, text)
	}
	if hashDir(t, dir) != before {
		t.Error("the folder has changed")
	}
}

func TestCheckRefusesWhatIsNoDataDir(t *testing.T) {
	dir := t.TempDir()
	of := func(name string) CheckOptions { return CheckOptions{DataDir: filepath.Join(dir, name)} }
	write := func(name, content string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("foreign/member/snap/db", "etcd's")
	write("empty/lost+found/x", "")
	write("file", "no folder")
	write("nonsense/MARKER", "nonsense\n")
	wantCode(t, dir, of("missing"), ExitUsage, "missing")
	wantCode(t, dir, of("file"), ExitUsage, "not a folder")
	wantCode(t, dir, of("empty"), ExitEmpty, "is empty")
	wantCode(t, dir, of("foreign"), ExitForeign, `"member"`)
	wantCode(t, dir, of("nonsense"), ExitCorrupt, "MARKER")

	for name, m := range map[string]marker{
		"newer":     {Format: markerFormat + 1, Engine: EngineMemory, Ready: true},
		"engine":    {Format: markerFormat, Engine: "other", Ready: true},
		"restoring": {Format: markerFormat, Engine: EngineMemory, Restoring: true},
		"begun":     {Format: markerFormat, Engine: EngineMemory},
	} {
		d := &dataDir{fs: disk.OS(), dir: filepath.Join(dir, name)}
		if err := errors.Join(d.fs.MkdirAll(d.dir), d.writeMarker(m)); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, dir, of("newer"), ExitNewer, "newer version")
	wantCode(t, dir, of("engine"), ExitNewer, `"other"`)
	wantCode(t, dir, of("restoring"), ExitCorrupt, "run it again")
	if r, err := Check(of("begun")); err != nil || r.Started || len(r.Notes) != 1 {
		t.Errorf("a first start that was cut off: %+v, %v", r, err)
	}
}

// Damage to the log and to the engine is told at once, each with its file.
func TestCheckTellsAllDamage(t *testing.T) {
	d := storedDirs(t, EngineMemory)[0]
	dir := copyOf(t, d).DataDir
	log, dump := d.files["log"][0].name, d.files["dump"][0].name
	flipBit(t, filepath.Join(dir, log), 8*100)
	flipBit(t, filepath.Join(dir, dump), 8*100)
	wantCode(t, dir, CheckOptions{DataDir: dir}, ExitCorrupt, filepath.Join(dir, dump))
	wantCode(t, dir, CheckOptions{DataDir: dir}, ExitCorrupt, filepath.Join(dir, log))
}

// An append that a power failure cut is named, and is no damage.
func TestCheckNamesATornTail(t *testing.T) {
	d := storedDirs(t, EngineMemory)[1]
	dir := copyOf(t, d).DataDir
	part := d.files["log"][0]
	if len(d.files["log"]) != 1 {
		t.Fatalf("the log has the segments %v", d.files["log"])
	}
	// The mark behind the last append, and the end of that append.
	f, err := os.OpenFile(filepath.Join(dir, part.name), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, 40), part.end-40)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	before := hashDir(t, dir)
	r, err := Check(CheckOptions{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], filepath.Join(dir, part.name)+": offset ") {
		t.Errorf("the notes are %q", r.Notes)
	}
	if hashDir(t, dir) != before {
		t.Error("the torn tail has changed")
	}
}

func TestCheckOfARunningMember(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n, err := Start(t.Context(), loneConfig(EngineMemory, dir))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Check(CheckOptions{DataDir: dir})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != ExitLocked || !strings.Contains(err.Error(), dir) {
		t.Errorf("check of a dir in use: %v", err)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(CheckOptions{DataDir: dir}); err != nil {
		t.Error(err)
	}
}

func TestCheckFindsRoomForItsFiles(t *testing.T) {
	missing, there := filepath.Join(t.TempDir(), "missing"), t.TempDir()
	if got, err := makeScratch(missing, there); err != nil || filepath.Dir(got) != there {
		t.Errorf("it takes %s, %v", got, err)
	}
	if _, err := makeScratch(missing); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("without any folder: %v", err)
	}
}

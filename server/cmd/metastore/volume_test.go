package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"metastore.io/metastore/server/node"
)

// volume is a file system of its own for one data dir: ext4 in a file, on a
// loop device.
//
// A power cut of it is a copy of the file while the file system is mounted and
// its process is gone: it holds what was written to the device, so what was
// synced, and what the kernel had not written yet is lost. The copy is mounted
// in its place, and its journal replayed as after a real one. The journal is
// committed by syncs alone (commit=300), and a rename saves no one who forgot
// to sync (noauto_da_alloc). It does not show writes that a device tore,
// reordered or lost after it acknowledged them: the simulator's disk does.
type volume struct {
	t            *testing.T
	image, mount string
	mounted      bool
	// frozen: nothing is written until thaw.
	frozen bool
}

// newVolume makes and mounts a volume, or skips the test where that is not
// allowed.
func newVolume(t *testing.T, megabytes int) *volume {
	t.Helper()
	dir := t.TempDir()
	v := &volume{t: t, image: filepath.Join(dir, "image"), mount: filepath.Join(dir, "mount")}
	needRoot(t, "mkfs.ext4", "mount", "umount")
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("no loop devices: %v", err)
	}
	if err := os.Mkdir(v.mount, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(v.image, int64(megabytes)<<20); err != nil {
		t.Fatal(err)
	}
	do(t, "mkfs.ext4", "-q", "-F", "-m", "0", v.image)
	v.on()
	t.Cleanup(v.off)
	return v
}

// needRoot skips tests of faults that only root can bring about.
func needRoot(t *testing.T, tools ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount file systems and to make networks")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
}

func do(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", command, err, bytes.TrimSpace(out))
	}
}

func (v *volume) on() {
	v.t.Helper()
	do(v.t, "mount", "-o", "loop,commit=300,noauto_da_alloc", v.image, v.mount)
	v.mounted = true
}

func (v *volume) off() {
	if v.mounted {
		v.mounted = false
		do(v.t, "umount", v.mount)
	}
}

// cut is the power cut; no process uses the volume any more.
func (v *volume) cut() {
	v.t.Helper()
	after := v.image + ".after"
	do(v.t, "cp", "--sparse=always", v.image, after)
	v.off()
	if err := os.Rename(after, v.image); err != nil {
		v.t.Fatal(err)
	}
	v.on()
}

// onVolumes gives each member a volume.
func onVolumes(t *testing.T, members []*member, megabytes int) []*volume {
	t.Helper()
	var vs []*volume
	for _, m := range members {
		v := newVolume(t, megabytes)
		m.dir = filepath.Join(v.mount, "data")
		t.Cleanup(m.kill) // before its volume goes
		vs = append(vs, v)
	}
	return vs
}

// A power cut keeps what was synced, and that alone.
func TestVolumeLosesWhatWasNotSynced(t *testing.T) {
	v := newVolume(t, 32)
	for _, sync := range []bool{true, false} {
		f, err := os.Create(filepath.Join(v.mount, fmt.Sprint(sync)))
		if err == nil {
			_, err = f.WriteString("content")
		}
		if err == nil && sync {
			err = f.Sync()
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	v.cut()
	if b, err := os.ReadFile(filepath.Join(v.mount, "true")); err != nil || string(b) != "content" {
		t.Errorf("the synced file has %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(v.mount, "false")); err == nil && len(b) > 0 {
		t.Errorf("the file that was not synced has %q", b)
	}
}

// TestFaultsPowerCut cuts the power of one member or of all, over and over.
func TestFaultsPowerCut(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		members := newCluster(t, engine, 3, faultFlags...)
		volumes := onVolumes(t, members, 512)
		startAll(members)
		h := startHistory(t, 8, members...)
		cuts := 0
		for cycle := range max(2, *faultCycles/10) {
			h.progress(50)
			some := members
			if cycle%2 == 0 {
				some = members[cycle/2%3:][:1]
			}
			for _, m := range some {
				m.kill()
			}
			for i, m := range members {
				if !m.running() {
					volumes[i].cut()
					cuts++
				}
			}
			startAll(members)
			h.next()
		}
		h.progress(50)
		h.verify(members...)
		checkHashes(t, members)
		t.Logf("%s: %d power cuts, %d calls answered, %d of unknown outcome, none lost", engine, cuts, h.acked.Load(), h.unknown.Load())
	})
}

// A full volume stops its member with a plain message and no other one; what
// was acknowledged is there when there is room again. With large values the log
// is the first to want room, with small ones a flush of the engine.
func TestFaultsFullVolume(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) { testFullVolume(t, engine, 64<<10) })
	t.Run("flush", func(t *testing.T) { testFullVolume(t, engines()[0], 64) })
}

func testFullVolume(t *testing.T, engine string, valueBytes int) {
	members := newCluster(t, engine, 3, faultFlags...)
	volumes := onVolumes(t, members, 256)
	startAll(members)
	h := startHistory(t, 8, members...)
	h.progress(50)
	full := leader(t, members)
	var v *volume
	for i, m := range members {
		if m == full {
			v = volumes[i]
		}
	}
	ballast := v.fill()
	// Writes go on, until the log of the full member wants more room.
	c := client(t, others(members, full)...)
	value := string(bytes.Repeat([]byte("x"), valueBytes))
	for i := 0; full.running(); i++ {
		if _, err := c.Put(within(t, clientPatience), fmt.Sprintf("fill/%d", i%8), value); err != nil {
			t.Logf("put %d: %v", i, err)
		}
		if i > 20_000 {
			t.Fatal("a member goes on with a full volume")
		}
	}
	if code := full.exitCode(clientPatience); code != node.ExitFull {
		t.Errorf("exit code %d with a full volume, want %d", code, node.ExitFull)
	}
	if out := full.out.String(); !strings.Contains(strings.ToLower(out), "no space left on device") {
		t.Errorf("it does not say why it stopped:\n%s", tail(out, 5))
	}
	h.progress(50) // the others go on
	// While there is no room it does not start, and does not say that its
	// data were damaged.
	full.start()
	if code := full.exitCode(clientPatience); code != node.ExitFull {
		t.Errorf("exit code %d at a start without room, want %d:\n%s", code, node.ExitFull, tail(full.out.String(), 5))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	startAll(members)
	h.next()
	h.progress(50)
	h.verify(members...)
	checkHashes(t, members)
}

// fill leaves the volume no room.
func (v *volume) fill() (ballast string) {
	v.t.Helper()
	ballast = filepath.Join(v.mount, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		v.t.Fatal(err)
	}
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2] // down to the last bytes
		}
	}
	if err := f.Close(); err != nil {
		v.t.Fatal(err)
	}
	return ballast
}

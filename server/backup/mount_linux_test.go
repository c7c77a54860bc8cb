package backup

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// small mounts a small file system.
func small(t *testing.T, sizeKB string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+sizeKB+"k"); err != nil {
		t.Skipf("this machine lets nobody mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A destination without room is told, and nothing of the backup stays there.
func TestFullDestination(t *testing.T) {
	endpoint, _ := serve(t, 200)
	dest := small(t, "24")
	o := takeOptions(t, endpoint, "ns/b", dest)
	o.Codec.Compression = CompressionNone
	_, err := Take(t.Context(), o)
	wantReason(t, "a full destination", err, DestinationFull)
	if left := names(t, dest); len(left) > 0 {
		t.Errorf("the full destination keeps %v", left)
	}
}

// A destination that is only readable is told before a snapshot is taken.
func TestReadOnlyDestination(t *testing.T) {
	endpoint, _ := serve(t, 3)
	dest := small(t, "4096")
	take(t, endpoint, "b", dest, nil)
	if err := unix.Mount("", dest, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := Take(t.Context(), takeOptions(t, endpoint, "c", dest))
	wantReason(t, "take to a read-only destination", err, DestinationReadOnly)
	wantReason(t, "delete there", Delete(t.Context(), "b", Location{URL: dest}), DestinationReadOnly)
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Restore(t.Context(), restoreOptions("b", dest, dir)); err != nil {
		t.Errorf("restore from a read-only destination: %v", err)
	}
}

// Scratch and volumes without room are told as such.
func TestNoSpace(t *testing.T) {
	endpoint, _ := serve(t, 200)
	o := takeOptions(t, endpoint, "b", t.TempDir())
	o.Scratch = small(t, "24")
	_, err := Take(t.Context(), o)
	wantReason(t, "a full scratch folder", err, NoSpace)
	o.Scratch = t.TempDir()
	if _, err := Take(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	volume := small(t, "512")
	_, err = Restore(t.Context(), restoreOptions("b", o.To.URL, filepath.Join(volume, "data")))
	wantReason(t, "a full volume", err, NoSpace)
	if left := names(t, volume); len(left) > 0 {
		t.Errorf("the full volume keeps %v", left)
	}
	_, err = Verify(t.Context(), VerifyOptions{Name: "b", From: o.To, RestoreTest: true, Scratch: volume, Logger: quiet})
	wantReason(t, "a restore test in it", err, NoSpace)
}

package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"testing"
	"time"

	"metastore.io/metastore/server/etcdfile"
	"metastore.io/metastore/server/watch"
)

// A snapshot ends with its sha256. Clients that leave in the middle leave no
// file behind, and no place taken.
func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, Options{SnapshotDir: dir}, watch.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 6 { // more than fits into the windows of a connection
		if _, err := s.client.Put(ctx, "big", string(make([]byte, 1<<20))); err != nil {
			t.Fatal(err)
		}
	}
	for range maxSnapshots + 1 {
		one, leave := context.WithCancel(ctx)
		r, err := s.client.SnapshotWithVersion(one)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r.Snapshot, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		leave()
		_ = r.Snapshot.Close() // its stream was cut
	}
	r, err := s.client.SnapshotWithVersion(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(r.Snapshot)
	if err != nil || r.Version != etcdfile.StorageVersion {
		t.Fatalf("version %q: %v", r.Version, err)
	}
	at := len(all) - sha256.Size
	if sum := sha256.Sum256(all[:at]); at < 6<<20 || !bytes.Equal(sum[:], all[at:]) {
		t.Errorf("%d bytes end with %x, want %x", len(all), all[at:], sum)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("the folder holds %v: %v", names, err)
	}
}

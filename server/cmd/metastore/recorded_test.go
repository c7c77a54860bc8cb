package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// recorded is what an etcd of an older version answered whose snapshot was kept;
// make etcd-snapshots records both.
type recorded struct {
	Version   string
	Revisions []struct {
		Revision, CompactRevision int64
		Hash                      uint32
		KVs                       []*mvccpb.KeyValue
	}
	Leases []struct {
		ID, GrantedTTL int64
		Keys           [][]byte
	}
	Users map[string][]string
	Roles map[string][]struct {
		Type          int32
		Key, RangeEnd []byte
	}
}

// Snapshots of older versions of etcd start MetaStore, which answers as they did.
func TestRecordedSnapshotsRestore(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "etcd-v3.*.db.gz"))
	if err != nil || len(files) < 2 {
		t.Fatalf("the recorded snapshots are missing: %v, %v", files, err)
	}
	for _, packed := range files {
		name := strings.TrimSuffix(packed, ".db.gz")
		t.Run(filepath.Base(name), func(t *testing.T) {
			var want recorded
			b, err := os.ReadFile(name + ".json")
			if err := errors.Join(err, json.Unmarshal(b, &want)); err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, want.Version) || len(want.Revisions) < 4 || len(want.Leases) < 2 {
				t.Fatalf("%s holds what version %s answered of %d revisions", name, want.Version, len(want.Revisions))
			}
			file := unpack(t, packed)
			eachEngine(t, func(t *testing.T, engine string) {
				m := newMember(t, "m0", engine)
				m.restore(file)
				m.start()
				m.waitServing()
				want.compare(t, client(t, m))
			})
		})
	}
}

func unpack(t *testing.T, packed string) string {
	t.Helper()
	in, err := os.Open(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (want *recorded) compare(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := within(t, time.Minute)
	for _, w := range want.Revisions {
		g := rangeAll(t, c, w.Revision)
		if !slices.EqualFunc(g.Kvs, w.KVs, sameKV) || len(w.KVs) == 0 {
			t.Errorf("revision %d: %d keys, or their contents, differ from the %d wanted", w.Revision, g.Count, len(w.KVs))
		}
		h, err := c.HashKV(ctx, c.Endpoints()[0], w.Revision)
		if err != nil || h.Hash != w.Hash || h.CompactRevision != w.CompactRevision {
			t.Errorf("hash of revision %d: %v, want %x compacted to %d: %v", w.Revision, h, w.Hash, w.CompactRevision, err)
		}
	}
	for _, w := range want.Leases {
		g, err := c.TimeToLive(ctx, clientv3.LeaseID(w.ID), clientv3.WithAttachedKeys())
		if err != nil || g.GrantedTTL != w.GrantedTTL || g.TTL <= 0 || !slices.EqualFunc(sorted(g.Keys), sorted(w.Keys), bytes.Equal) {
			t.Errorf("lease %x: %v, want TTL %d and %d keys: %v", w.ID, g, w.GrantedTTL, len(w.Keys), err)
		}
	}
	for name, roles := range want.Users {
		if u, err := c.UserGet(ctx, name); err != nil || !slices.Equal(u.Roles, roles) {
			t.Errorf("user %s: %v, want %v: %v", name, u, roles, err)
		}
	}
	for name, perms := range want.Roles {
		r, err := c.RoleGet(ctx, name)
		if err != nil || len(r.Perm) != len(perms) {
			t.Errorf("role %s: %v, want %v: %v", name, r, perms, err)
			continue
		}
		for i, p := range r.Perm {
			if int32(p.PermType) != perms[i].Type || !bytes.Equal(p.Key, perms[i].Key) || !bytes.Equal(p.RangeEnd, perms[i].RangeEnd) {
				t.Errorf("role %s may %v, want %v", name, p, perms[i])
			}
		}
	}
	wantGuest(t, c, "key/001", "first/1")
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"metastore.io/metastore/server/backup"
	"metastore.io/metastore/server/node"
)

// backupCommand runs a command of backup, and gives its result file and exit code.
func backupCommand(t *testing.T, args ...string) (backupResult, int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "result")
	_, errs, code := command(t, append([]string{"backup", "--result-file", file, "--log-level", "error"}, args...)...)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("backup %q ends with %d and has no result: %v\n%s", args, code, err, errs)
	}
	var r backupResult
	if err := json.Unmarshal(b, &r); err != nil || len(b) > maxResultBytes {
		t.Fatalf("backup %q: result of %d bytes: %v\n%s", args, len(b), err, b)
	}
	if r.OK != (code == 0) || r.OK != (r.Message == "") || !r.OK && !strings.Contains(errs, r.Message[:min(len(r.Message), 100)]) {
		t.Fatalf("backup %q ends with %d, says %q, and its result is %s", args, code, errs, b)
	}
	return r, code
}

// mustBackup is backupCommand of one that succeeds.
func mustBackup(t *testing.T, args ...string) backupResult {
	t.Helper()
	r, code := backupCommand(t, args...)
	if code != 0 {
		t.Fatalf("backup %q ends with %d: %s: %s", args, code, r.Reason, r.Message)
	}
	return r
}

// wantRefused is backupCommand of one that fails for a reason.
func wantRefused(t *testing.T, reason backup.Reason, text string, args ...string) backupResult {
	t.Helper()
	r, code := backupCommand(t, args...)
	want := node.ExitFailure
	if reason == backup.InvalidArgument {
		want = node.ExitUsage
	}
	if code != want || r.Reason != reason || !strings.Contains(r.Message, text) {
		t.Errorf("backup %q ends with %d, %s: %q; want %d, %s: %q", args, code, r.Reason, r.Message, want, reason, text)
	}
	return r
}

func endpointsOf(members ...*member) string {
	var urls []string
	for _, m := range members {
		urls = append(urls, "http://"+m.client)
	}
	return strings.Join(urls, ",")
}

// restoreArgs are those of a member that is restored to its data dir.
func (m *member) restoreArgs(name, from string, more ...string) []string {
	return append([]string{
		"restore", name, "--from", from, "--data-dir", m.dir, "--name", m.name, "--storage-engine", m.engine,
		"--initial-cluster", m.initial, "--initial-advertise-peer-urls", "http://" + m.peer, "--initial-cluster-token", "restored",
	}, more...)
}

// fillHistory writes keys with a history that was compacted, deletes and leases.
func fillHistory(t *testing.T, c *clientv3.Client, keys int) {
	t.Helper()
	ctx := within(t, time.Minute)
	lease, err := c.Grant(ctx, 3600)
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		if _, err := c.Put(ctx, fmt.Sprintf("k%05d", i%(keys*3/4+1)), strings.Repeat(fmt.Sprint(i), 20), clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
		if i == keys/2 {
			if _, err := c.Delete(ctx, "k00001"); err != nil {
				t.Fatal(err)
			}
		}
	}
	r, err := c.Get(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(ctx, r.Header.Revision*2/3, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
}

// wantHolds compares what a member holds with a manifest.
func wantHolds(t *testing.T, m *member, want *backup.Manifest) {
	t.Helper()
	c := client(t, m)
	h, err := c.HashKV(within(t, 5*time.Second), m.client, want.Revision)
	if err != nil || h.Hash != want.Hash || max(h.CompactRevision, 0) != want.CompactRevision {
		t.Errorf("%s has the hash %v, want %d of %d: %v", m.name, h, want.Hash, want.CompactRevision, err)
	}
	r, err := c.Get(within(t, 5*time.Second), "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly(), clientv3.WithRev(want.Revision))
	if err != nil || r.Count != want.Keys {
		t.Errorf("%s has the keys %v, want %d: %v", m.name, r, want.Keys, err)
	}
}

// A backup of three members comes from a follower, passes every test, and starts
// a new cluster of three that holds the same.
func TestBackupRestoresCluster(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		members := startCluster(t, engine, 3)
		fillHistory(t, client(t, members...), 400)
		dest, scratch := t.TempDir(), t.TempDir()
		lead, err := client(t, leader(t, members)).Status(within(t, 5*time.Second), leader(t, members).client)
		if err != nil {
			t.Fatal(err)
		}
		m := mustBackup(t, "take", "ns/c/b1", "--to", dest, "--endpoints", endpointsOf(members...), "--verify=restore-test",
			"--scratch", scratch, "--cluster-id", fmt.Sprintf("%x", lead.Header.ClusterId)).Manifest
		if m.Verified != "restore-test" || m.ClusterID != fmt.Sprintf("%x", lead.Header.ClusterId) || m.Version == "" || m.EtcdVersion != lead.Version ||
			m.Keys == 0 || m.Hash == 0 || m.CompactRevision == 0 || m.RaftIndex == 0 || m.RaftTerm == 0 || m.StoredBytes >= m.SnapshotBytes {
			t.Errorf("the manifest is %+v", m)
		}
		if m.MemberID == fmt.Sprintf("%x", lead.Header.MemberId) {
			t.Errorf("the backup was taken from the leader, %s", m.MemberID)
		}
		wantHolds(t, members[0], m)
		if names, err := os.ReadDir(scratch); err != nil || len(names) > 0 {
			t.Errorf("the scratch folder keeps %v: %v", names, err)
		}
		if v := mustBackup(t, "verify", "ns/c/b1", "--from", dest, "--restore-test", "--scratch", scratch).Manifest; *v != *m {
			t.Errorf("verify tells %+v, take %+v", v, m)
		}
		restored := newCluster(t, engine, 3)
		for _, r := range restored {
			done := mustBackup(t, r.restoreArgs("ns/c/b1", dest)...)
			if done.Revision != m.Revision || *done.Manifest != *m {
				t.Errorf("restore tells revision %d and %+v", done.Revision, done.Manifest)
			}
			r.start()
		}
		for _, r := range restored {
			r.waitServing()
			wantHolds(t, r, m)
		}
	})
}

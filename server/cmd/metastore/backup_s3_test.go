package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"metastore.io/metastore/server/backup"
	"metastore.io/metastore/server/node"
)

// ageKey makes a key pair in two files.
func ageKey(t *testing.T) (recipients, identity string) {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	recipients, identity = filepath.Join(dir, "recipients"), filepath.Join(dir, "identity")
	for name, text := range map[string]string{recipients: k.Recipient().String(), identity: k.String()} {
		if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return recipients, identity
}

// A backup in S3 is taken, listed, verified, restored and deleted like one in a
// folder, compressed and encrypted, over TLS.
func TestBackupToS3(t *testing.T) {
	s := startS3(t)
	s.use()
	m := newMember(t, "m0", node.EngineMemory)
	m.start()
	m.waitServing()
	fillHistory(t, client(t, m), 300)
	recipients, identity := ageKey(t)
	const dest = "s3://backups/some/prefix"
	with := func(args ...string) []string { return append(args, s.args(s.address)...) }
	taken := mustBackup(t, with("take", "ns/c/b1", "--to", dest, "--endpoints", endpointsOf(m), "--scratch", t.TempDir(),
		"--age-recipients-file", recipients, "--age-identity-file", identity, "--verify=restore-test")...).Manifest
	if taken.Encryption != "age" || taken.Verified != "restore-test" {
		t.Errorf("the manifest is %+v", taken)
	}
	out, errs, code := command(t, with("backup", "list", "--from", dest, "-w", "json")...)
	var list struct{ Backups []backup.Manifest }
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list.Backups) != 1 || list.Backups[0] != *taken {
		t.Errorf("list ends with %d and prints %s %s: %v", code, out, errs, err)
	}
	mustBackup(t, with("verify", "ns/c/b1", "--from", dest)...)
	wantRefused(t, backup.AlreadyExists, "ns/c/b1", with("take", "ns/c/b1", "--to", dest, "--endpoints", endpointsOf(m))...)
	r := newCluster(t, node.EngineMemory, 1)[0]
	mustBackup(t, append(r.restoreArgs("ns/c/b1", dest, s.args(s.address)...), "--age-identity-file", identity)...)
	r.start()
	r.waitServing()
	wantHolds(t, r, taken)
	mustBackup(t, with("delete", "ns/c/b1", "--from", dest)...)
	mustBackup(t, with("delete", "ns/c/b1", "--from", dest)...)
	s.wantEmpty()
}

// What is wrong with the storage has a reason, before a member is asked.
func TestBackupS3Refusals(t *testing.T) {
	s := startS3(t)
	s.use()
	take := func(dest string, more ...string) []string {
		return append([]string{"take", "b", "--to", dest, "--endpoints", "http://127.0.0.1:1"}, more...)
	}
	wantRefused(t, backup.DestinationMissing, "does not exist", take("s3://no-such-bucket/x", s.args(s.address)...)...)
	wantRefused(t, backup.Unreachable, "", take("s3://backups/x", s.args(freeAddress(t))...)...)
	wantRefused(t, backup.Unreachable, "certificate", take("s3://backups/x", "--s3-endpoint", "https://"+s.address)...)
	wantRefused(t, backup.InvalidArgument, "--s3-ca-file", take("s3://backups/x", "--s3-ca-file", "/no/such/file")...)
	wantRefused(t, backup.NotFound, "", append([]string{"verify", "b", "--from", "s3://backups/x"}, s.args(s.address)...)...)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	wantRefused(t, backup.AccessDenied, "", take("s3://backups/x", s.args(s.address)...)...)
	t.Setenv("AWS_ACCESS_KEY_ID", "stranger")
	wantRefused(t, backup.AccessDenied, "", take("s3://backups/x", s.args(s.address)...)...)
	s.wantEmpty()
}

// partsOfUpload is more than one part of an upload, which is 16 MiB.
const partsOfUpload = 40 << 20

// An upload in parts that a signal or the storage's end interrupts is not to be
// seen, and nothing of it is left.
func TestBackupS3Interrupted(t *testing.T) {
	s := startS3(t)
	s.use()
	m := newMember(t, "m0", node.EngineMemory)
	m.start()
	m.waitServing()
	fillRandom(t, client(t, m), partsOfUpload)
	take := func(address, name string) []string {
		return append([]string{"take", name, "--to", "s3://backups", "--endpoints", endpointsOf(m), "--compression=none"}, s.args(address)...)
	}
	c := newChoke(t, s.address, 10<<20, true)
	scratch := t.TempDir()
	p := startBackup(t, append(take(c.address, "stopped"), "--scratch", scratch)...)
	p.waitFor(t, c.reached)
	p.terminate(t)
	if r, code := p.result(t); code != node.ExitFailure || r.Reason != backup.Failed {
		t.Errorf("a backup that is told to end ends with %d, %+v", code, r)
	}
	s.wantEmpty()
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("the scratch folder keeps %v: %v", left, err)
	}
	whole := mustBackup(t, append(take(s.address, "whole"), "--verify=checksum")...).Manifest
	if whole.StoredBytes != whole.SnapshotBytes || whole.StoredBytes < partsOfUpload {
		t.Errorf("the manifest is %+v", whole)
	}
	c = newChoke(t, s.address, 10<<20, true)
	p = startBackup(t, take(c.address, "lost")...)
	p.waitFor(t, c.reached)
	s.kill()
	c.release()
	if r, code := p.result(t); code != node.ExitFailure || r.Reason != backup.Unreachable || !strings.Contains(r.Message, "lost/snapshot.db") {
		t.Errorf("a backup whose storage is gone ends with %d, %+v", code, r)
	}
}

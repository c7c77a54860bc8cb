package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"metastore.io/metastore/server/backup"
	"metastore.io/metastore/server/node"
)

// fillRandom writes values that cannot be compressed, so many bytes.
func fillRandom(t *testing.T, c *clientv3.Client, size int) {
	t.Helper()
	const valueBytes = 1 << 20
	random := rand.NewChaCha8([32]byte{1})
	value := make([]byte, valueBytes)
	for i := range size / valueBytes {
		_, _ = random.Read(value) // never fails
		if _, err := c.Put(within(t, 30*time.Second), fmt.Sprintf("big%d", i), string(value)); err != nil {
			t.Fatal(err)
		}
	}
}

// backupProcess is a command of backup that runs.
type backupProcess struct {
	cmd  *exec.Cmd
	file string
	out  output
	// ended is closed when the process is gone; then err is how it went.
	ended chan struct{}
	err   error
}

func startBackup(t *testing.T, args ...string) *backupProcess {
	t.Helper()
	p := &backupProcess{file: filepath.Join(t.TempDir(), "result"), ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], append([]string{"backup", "--result-file", p.file}, args...)...)
	p.cmd.Env = append(os.Environ(), asServer+"=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended, where all is well
		<-p.ended
	})
	return p
}

// waitFor waits until the process has come so far.
func (p *backupProcess) waitFor(t *testing.T, reached <-chan struct{}) {
	t.Helper()
	select {
	case <-reached:
	case <-p.ended:
		t.Fatalf("it ended too early: %v\n%s", p.err, p.out.String())
	case <-time.After(time.Minute):
		t.Fatalf("it does not come so far:\n%s", p.out.String())
	}
}

func (p *backupProcess) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// result waits for the end.
func (p *backupProcess) result(t *testing.T) (r backupResult, code int) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatalf("it does not end:\n%s", p.out.String())
	}
	b, err := os.ReadFile(p.file)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatalf("no result: %v\n%s", err, p.out.String())
	}
	return r, p.cmd.ProcessState.ExitCode()
}

// A member that is killed in the middle of its snapshot is replaced by another.
func TestBackupSurvivesLostMember(t *testing.T) {
	members := startCluster(t, node.EngineMemory, 3)
	fillRandom(t, client(t, members...), 8<<20)
	lead := leader(t, members)
	var follower *member
	for _, m := range members {
		if m != lead {
			follower = m
		}
	}
	c := newChoke(t, follower.client, 2<<20, false)
	dest := t.TempDir()
	p := startBackup(t, "take", "b", "--to", dest, "--endpoints", "http://"+c.address+","+endpointsOf(lead), "--verify=restore-test", "--scratch", t.TempDir())
	p.waitFor(t, c.reached)
	follower.kill()
	c.release()
	r, code := p.result(t)
	if code != 0 || !strings.Contains(p.out.String(), "a member was lost") {
		t.Fatalf("the backup ends with %d, %+v\n%s", code, r, p.out.String())
	}
	wantHolds(t, lead, r.Manifest)
}

// A member that is compacted before it could tell the hash of its snapshot is
// asked for another one.
func TestBackupOfCompactedMember(t *testing.T) {
	m := newMember(t, "m0", node.EngineMemory)
	m.start()
	m.waitServing()
	direct := client(t, m)
	fillRandom(t, direct, 8<<20)
	c := newChoke(t, m.client, 2<<20, false)
	p := startBackup(t, "take", "b", "--to", t.TempDir(), "--endpoints", "http://"+c.address, "--scratch", t.TempDir())
	p.waitFor(t, c.reached)
	if _, err := direct.Compact(within(t, 5*time.Second), 4); err != nil {
		t.Fatal(err)
	}
	c.release()
	r, code := p.result(t)
	if code != 0 || r.Manifest.CompactRevision != 4 || !strings.Contains(p.out.String(), "taking the snapshot again") {
		t.Fatalf("the backup ends with %d, %+v\n%s", code, r, p.out.String())
	}
	wantHolds(t, m, r.Manifest)
}

// A backup that is told to end does, and leaves nothing.
func TestBackupStops(t *testing.T) {
	m := newMember(t, "m0", node.EngineMemory)
	m.start()
	m.waitServing()
	fillRandom(t, client(t, m), 8<<20)
	c := newChoke(t, m.client, 2<<20, false)
	dest, scratch := t.TempDir(), t.TempDir()
	p := startBackup(t, "take", "b", "--to", dest, "--endpoints", "http://"+c.address, "--scratch", scratch)
	p.waitFor(t, c.reached)
	p.terminate(t)
	if r, code := p.result(t); code != node.ExitFailure || r.Reason != backup.Failed {
		t.Errorf("it ends with %d, %+v", code, r)
	}
	for _, dir := range []string{dest, scratch} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s holds %v: %v", dir, left, err)
		}
	}
}

// Restores that are killed at any time are done by one that is not, and the old
// data dir is there until then.
func TestBackupRestoreKilled(t *testing.T) {
	m := newMember(t, "m0", node.EngineMemory)
	m.start()
	m.waitServing()
	fillRandom(t, client(t, m), 8<<20)
	dest := t.TempDir()
	taken := mustBackup(t, "take", "b", "--to", dest, "--endpoints", endpointsOf(m)).Manifest
	m.terminate()
	took := time.Second
	for i := range 10 {
		word := fmt.Sprintf("w%d", i)
		args := m.restoreArgs("b", dest, "--once", word)
		p := startBackup(t, args...)
		killed := time.AfterFunc(time.Duration(rand.Int64N(int64(took))), func() { _ = p.cmd.Process.Kill() })
		begin := time.Now()
		<-p.ended // killed or not
		if !killed.Stop() {
			took = max(took/2, time.Since(begin))
		}
		_, err := os.Stat(filepath.Join(m.dir, "MARKER"))
		_, before := os.Stat(filepath.Join(m.dir+".before-"+word, "MARKER"))
		if err != nil && before != nil {
			t.Fatalf("neither the old nor the new data dir is in place: %v, %v", err, before)
		}
		if i%2 == 0 {
			mustBackup(t, args...)
			mustBackup(t, "finish", "--data-dir", m.dir, "--once", word)
		} else {
			mustBackup(t, "undo", "--data-dir", m.dir, "--once", word)
		}
		if left, err := filepath.Glob(m.dir + ".*"); err != nil || len(left) > 0 {
			t.Fatalf("%v is left beside the data dir: %v", left, err)
		}
	}
	m.start()
	m.waitServing()
	wantHolds(t, m, taken)
}

// Members that want TLS and a user are asked with both; a password that is wrong
// is told as such.
func TestBackupOfGuardedMembers(t *testing.T) {
	dir := certificates(t, "server")
	m := newMember(t, "m0", node.EngineMemory)
	m.startArgs(append(m.args(), "--bcrypt-cost=4", "--cert-file="+filepath.Join(dir, "server.pem"), "--key-file="+filepath.Join(dir, "server.key"),
		"--listen-client-urls=https://"+m.client, "--advertise-client-urls=https://"+m.client))
	root := certClient(t, dir, "server", m)
	eventually(t, 20*time.Second, func() error {
		_, err := root.Get(within(t, 5*time.Second), "x")
		return err
	})
	if _, err := root.Put(within(t, 5*time.Second), "k", "v"); err != nil {
		t.Fatal(err)
	}
	enableAuth(t, root)
	dest := t.TempDir()
	args := []string{"take", "b", "--to", dest, "--endpoints", "https://" + m.client, "--cacert", filepath.Join(dir, "ca.pem")}
	wantRefused(t, backup.AccessDenied, "user name is empty", args...)
	t.Setenv("METASTORE_PASSWORD", "wrong")
	wantRefused(t, backup.AccessDenied, "", append(args, "--user=root")...)
	t.Setenv("METASTORE_PASSWORD", "secret")
	wantRefused(t, backup.AccessDenied, "permission denied", append(args, "--user=user")...)
	t.Setenv("METASTORE_PASSWORD", "top")
	wantRefused(t, backup.Unreachable, "certificate", "take", "b", "--to", dest, "--endpoints", "https://"+m.client, "--user=root")
	wantRefused(t, backup.WrongCluster, "abc", append(args, "--user=root", "--cluster-id=abc")...)
	if taken := mustBackup(t, append(args, "--user=root", "--verify=restore-test", "--scratch", t.TempDir())...).Manifest; taken.Keys != 1 {
		t.Errorf("the manifest is %+v", taken)
	}
}

// A snapshot of a real etcd starts a cluster of MetaStore, and etcd's own tool
// starts an etcd from a backup of MetaStore.
func TestBackupAndEtcd(t *testing.T) {
	etcd := startEtcd(t, filepath.Join(t.TempDir(), "etcd"), freeAddress(t))
	fillHistory(t, etcd.client3, 100)
	file := save(t, etcd.client3)
	members := newCluster(t, node.EngineMemory, 2)
	for _, m := range members {
		done := mustBackup(t, m.restoreArgs(filepath.Base(file), filepath.Dir(file), "--etcd-snapshot", "--bump-revision=1000", "--mark-compacted")...)
		if done.Manifest != nil || done.Revision < 1000 {
			t.Errorf("restore tells %+v", done)
		}
		m.start()
	}
	want, err := etcd.client3.Get(within(t, 5*time.Second), "k", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		m.waitServing()
		got, err := client(t, m).Get(within(t, 5*time.Second), "k", clientv3.WithPrefix())
		if err != nil || len(got.Kvs) != len(want.Kvs) || got.Header.Revision != want.Header.Revision+1000 {
			t.Fatalf("%s has %d keys at revision %d, etcd %d at %d: %v", m.name, len(got.Kvs), got.Header.Revision, len(want.Kvs), want.Header.Revision, err)
		}
		for i := range want.Kvs {
			if !bytes.Equal(got.Kvs[i].Value, want.Kvs[i].Value) || got.Kvs[i].ModRevision != want.Kvs[i].ModRevision {
				t.Fatalf("%s has %v, etcd %v", m.name, got.Kvs[i], want.Kvs[i])
			}
		}
	}
	dest := t.TempDir()
	taken := mustBackup(t, "take", "b", "--to", dest, "--endpoints", endpointsOf(members...), "--compression=none").Manifest
	back := restoreEtcd(t, filepath.Join(dest, "b", "snapshot.db"), 0)
	h, err := back.client3.HashKV(within(t, 5*time.Second), back.client, taken.Revision)
	if err != nil || h.Hash != taken.Hash {
		t.Errorf("etcd restored from the backup has the hash %v, want %d: %v", h, taken.Hash, err)
	}
	wantBareRefusals(t, file)
}

// wantBareRefusals wants bare files to be looked at like backups.
func wantBareRefusals(t *testing.T, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"cut": content[:len(content)-4096], "text": []byte("no database"), "flipped": flip(content)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		m := newMember(t, "r", node.EngineMemory)
		m.initial = "r=http://" + m.peer
		wantRefused(t, backup.Corrupt, name, m.restoreArgs(name, dir, "--etcd-snapshot")...)
		if _, err := os.Stat(m.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is restored: %v", name, err)
		}
	}
	m := newMember(t, "r", node.EngineMemory)
	m.initial = "r=http://" + m.peer
	wantRefused(t, backup.NotFound, "", m.restoreArgs("none", dir, "--etcd-snapshot")...)
	wantRefused(t, backup.InvalidArgument, "", m.restoreArgs("../none", dir, "--etcd-snapshot")...)
}

// flip changes one bit in the middle.
func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// Flags and arguments that are wrong have a result like all else.
func TestBackupFlags(t *testing.T) {
	m := newMember(t, "m", node.EngineMemory)
	m.initial = "m=http://" + m.peer
	for _, c := range []struct {
		text string
		args []string
	}{
		{"0 arguments", []string{"take"}},
		{"unknown flag: --too", []string{"take", "b", "--too", "x"}},
		{"--write-out=xml", []string{"list", "--from", t.TempDir(), "-w", "xml"}},
		{"--once is needed", []string{"undo", "--data-dir", m.dir}},
		{"--once is needed", []string{"finish", "--data-dir", m.dir}},
		{"--data-dir is needed", []string{"undo", "--once", "w"}},
		{"go together", m.restoreArgs("b", t.TempDir(), "--bump-revision=5")},
		{"--storage-engine=paper", m.restoreArgs("b", t.TempDir(), "--storage-engine=paper")},
		{"--initial-advertise-peer-urls=ftp://x:1", m.restoreArgs("b", t.TempDir(), "--initial-advertise-peer-urls=ftp://x:1")},
		{"--cluster-id", m.restoreArgs("b", t.TempDir(), "--etcd-snapshot", "--cluster-id=1")},
	} {
		wantRefused(t, backup.InvalidArgument, c.text, c.args...)
	}
	long := &backupResult{Message: strings.Repeat("\"", 3*maxResultBytes)}
	if b, err := long.encode(); err != nil || len(b) > maxResultBytes || !strings.Contains(long.Message, cutMark) {
		t.Errorf("a long message becomes %d bytes: %v", len(b), err)
	}
	out, errs, code := command(t, "backup", "list", "--from", t.TempDir())
	if code != 0 || !strings.HasPrefix(out, "NAME") || errs != "" {
		t.Errorf("an empty list ends with %d and prints %q %q", code, out, errs)
	}
}

package backup

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"metastore.io/metastore/server/node"
)

var quiet = slog.New(slog.DiscardHandler)

// serve runs a member in this process that holds some keys.
func serve(t *testing.T, keys int) (endpoint string, client *clientv3.Client) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := node.DefaultConfig()
	c.StorageEngine, c.DataDir, c.Logger = node.EngineMemory, filepath.Join(t.TempDir(), "member"), quiet
	c.ListenClientURLs = []url.URL{{Scheme: "http", Host: address}}
	c.AdvertiseClientURLs = c.ListenClientURLs
	c.ListenPeerURLs = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	endpoint = "http://" + address
	client, err = clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range keys {
		if _, err := client.Put(ctx, fmt.Sprintf("k%d", i), fmt.Sprintf("value %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	return endpoint, client
}

// take takes a backup into a folder.
func take(t *testing.T, endpoint, name, dest string, change func(*TakeOptions)) *Manifest {
	t.Helper()
	o := takeOptions(t, endpoint, name, dest)
	if change != nil {
		change(&o)
	}
	m, err := Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func takeOptions(t *testing.T, endpoint, name, dest string) TakeOptions {
	return TakeOptions{
		Name: name, To: Location{URL: dest}, Members: Members{Endpoints: []string{endpoint}},
		Codec: Codec{Compression: CompressionZstd}, Scratch: t.TempDir(), Logger: quiet,
	}
}

// newKey makes an age key pair in two files.
func newKey(t *testing.T) (recipients, identity string) {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	recipients, identity = filepath.Join(dir, "recipients"), filepath.Join(dir, "identity")
	write(t, recipients, []byte(k.Recipient().String()+"\n"))
	write(t, identity, []byte(k.String()+"\n"))
	return recipients, identity
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// names lists a folder.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// restoreOptions are those of a member that is alone.
func restoreOptions(name, from, dir string) RestoreOptions {
	o := RestoreOptions{Name: name, From: Location{URL: from}, Member: node.DefaultConfig(), Once: "w1", Logger: quiet}
	o.Member.DataDir, o.Member.StorageEngine, o.Member.Logger = dir, node.EngineMemory, quiet
	return o
}

// wantReason wants an error with a reason.
func wantReason(t *testing.T, what string, err error, reasons ...Reason) {
	t.Helper()
	for _, r := range reasons {
		if err != nil && ReasonOf(err) == r {
			return
		}
	}
	t.Errorf("%s: the reason is %s, want one of %v: %v", what, ReasonOf(err), reasons, err)
}

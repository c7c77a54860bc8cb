package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"
)

// userClient is a client that authenticates.
func userClient(t *testing.T, user, password string, members ...*member) *clientv3.Client {
	t.Helper()
	c := clientv3.Config{Username: user, Password: password, DialTimeout: 20 * time.Second, Logger: zap.NewNop()}
	for _, m := range members {
		c.Endpoints = append(c.Endpoints, "http://"+m.client)
	}
	client, err := clientv3.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// enableAuth makes root and one user who may read and write a/.
func enableAuth(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := within(t, 30*time.Second)
	for _, step := range []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", "top"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.RoleAdd(ctx, "r"); return err },
		func() error {
			_, err := c.RoleGrantPermission(ctx, "r", "a/", "a0", clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := c.UserAdd(ctx, "user", "secret"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "user", "r"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// guarded wants the member to refuse strangers, and users what is not theirs.
func guarded(t *testing.T, m *member) {
	t.Helper()
	ctx := within(t, 60*time.Second)
	anonymous := client(t, m)
	if _, err := anonymous.Get(ctx, "a/1"); !errors.Is(err, rpctypes.ErrUserEmpty) {
		t.Errorf("%s: anonymous Get: %v", m.name, err)
	}
	if _, err := anonymous.Put(ctx, "a/1", "x"); !errors.Is(err, rpctypes.ErrUserEmpty) {
		t.Errorf("%s: anonymous Put: %v", m.name, err)
	}
	if r := <-anonymous.Watch(ctx, "a/", clientv3.WithPrefix()); !r.Canceled {
		t.Errorf("%s: an anonymous watch is created: %v", m.name, r)
	}
	if err := takeSnapshot(ctx, anonymous); !errors.Is(err, rpctypes.ErrUserEmpty) {
		t.Errorf("%s: anonymous Snapshot: %v", m.name, err)
	}
	user := userClient(t, "user", "secret", m)
	if _, err := user.Put(ctx, "a/"+m.name, "mine"); err != nil {
		t.Errorf("%s: the user's own key: %v", m.name, err)
	}
	for _, key := range []string{"b", "a", "a0"} {
		if _, err := user.Put(ctx, key, "x"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s: Put of %s: %v", m.name, key, err)
		}
	}
	if _, err := user.Get(ctx, "a/", clientv3.WithRange("a1")); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("%s: a range that begins in the user's own: %v", m.name, err)
	}
	if r := <-user.Watch(ctx, "a/", clientv3.WithFromKey()); !r.Canceled {
		t.Errorf("%s: a watch beyond the user's range: %v", m.name, r)
	}
	if err := takeSnapshot(ctx, user); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("%s: the user's Snapshot: %v", m.name, err)
	}
	root := userClient(t, "root", "top", m)
	if err := takeSnapshot(ctx, root); err != nil {
		t.Errorf("%s: root's Snapshot: %v", m.name, err)
	}
	if s, err := root.AuthStatus(ctx); err != nil || !s.Enabled || s.AuthRevision != 7 {
		t.Errorf("%s: status %v, %v", m.name, s, err)
	}
}

func takeSnapshot(ctx context.Context, c *clientv3.Client) error {
	r, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	_, err = io.Copy(io.Discard, r)
	return err
}

// Users and permissions are everywhere, and outlive restarts and snapshots.
func TestAuthStaysOn(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		members := startCluster(t, engine, 3, "--bcrypt-cost=4", "--snapshot-count=20", "--snapshot-catchup-entries=5")
		enableAuth(t, client(t, members[0]))
		for _, m := range members {
			guarded(t, m)
		}
		for _, m := range members {
			m.kill()
		}
		for _, m := range members {
			m.start()
		}
		for _, m := range members {
			waitUser(t, m)
			guarded(t, m)
		}
		// A member that was away gets users and permissions by a snapshot.
		lag := members[2]
		lag.kill()
		ctx := within(t, 60*time.Second)
		root := userClient(t, "root", "top", members[0], members[1])
		if _, err := root.UserChangePassword(ctx, "user", "other"); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if _, err := root.Put(ctx, "b", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		lag.start()
		eventually(t, 20*time.Second, func() error {
			_, err := userClient(t, "user", "other", lag).Get(within(t, 5*time.Second), "a/1")
			return err
		})
		if _, err := client(t, lag).Get(ctx, "a/1", clientv3.WithSerializable()); !errors.Is(err, rpctypes.ErrUserEmpty) {
			t.Errorf("anonymous Get after a snapshot: %v", err)
		}
	})
}

// waitUser waits until a member answers users.
func waitUser(t *testing.T, m *member) {
	t.Helper()
	c := userClient(t, "user", "secret", m)
	eventually(t, 20*time.Second, func() error {
		_, err := c.Get(within(t, 5*time.Second), "a/1")
		return err
	})
}

// A token of one member is good on the others at once.
func TestTokensAreGoodEverywhere(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		members := startCluster(t, engine, 3, "--bcrypt-cost=4")
		enableAuth(t, client(t, members[0]))
		ctx := within(t, 60*time.Second)
		for range 10 {
			a, err := client(t, members[0]).Authenticate(ctx, "user", "secret")
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range members {
				c := client(t, m)
				// As a gateway's client would send it.
				if _, err := c.Get(withToken(ctx, a.Token), "a/1", clientv3.WithSerializable()); err != nil {
					t.Errorf("%s: %v", m.name, err)
				}
			}
		}
	})
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameSwagger, "Bearer "+token)
}

// certificates makes an authority and, signed by it, one certificate for each
// name; files are named after it.
func certificates(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	template := func(serial int64, cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
	}
	caKey, ca := newKey(), template(1, "authority")
	ca.IsCA, ca.BasicConstraintsValid = true, true
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	write("ca.pem", "CERTIFICATE", der)
	for i, name := range names {
		key := newKey()
		der, err := x509.CreateCertificate(rand.Reader, template(int64(i)+2, name), ca, key.Public(), caKey)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
		if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			t.Fatal(err)
		}
		write(name+".key", "PRIVATE KEY", der)
	}
	return dir
}

// certClient is a client with the certificate of a name.
func certClient(t *testing.T, dir, name string, m *member) *clientv3.Client {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		t.Fatal("no authority", err)
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"https://" + m.client}, DialTimeout: 20 * time.Second, Logger: zap.NewNop(),
		TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// The common name of a client's certificate is its user.
func TestUserByCertificate(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		dir := certificates(t, "server", "root", "user", "stranger")
		m := newMember(t, "tls", engine)
		args := append(m.args(), "--bcrypt-cost=4", "--client-cert-auth", "--trusted-ca-file="+filepath.Join(dir, "ca.pem"),
			"--cert-file="+filepath.Join(dir, "server.pem"), "--key-file="+filepath.Join(dir, "server.key"),
			"--listen-client-urls=https://"+m.client, "--advertise-client-urls=https://"+m.client)
		m.startArgs(args)
		root := certClient(t, dir, "root", m)
		eventually(t, 20*time.Second, func() error {
			_, err := root.Get(within(t, 5*time.Second), "x")
			return err
		})
		enableAuth(t, root)
		ctx := within(t, 30*time.Second)
		if _, err := root.Put(ctx, "b", "1"); err != nil {
			t.Errorf("root: %v", err)
		}
		user := certClient(t, dir, "user", m)
		if _, err := user.Put(ctx, "a/1", "1"); err != nil {
			t.Errorf("the user's own key: %v", err)
		}
		if _, err := user.Get(ctx, "b"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("another's key: %v", err)
		}
		if _, err := certClient(t, dir, "stranger", m).Get(ctx, "a/1"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("a name without user: %v", err)
		}
	})
}

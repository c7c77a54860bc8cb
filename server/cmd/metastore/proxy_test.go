package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// startProxy starts a subcommand that listens on a free address.
func startProxy(t *testing.T, members []*member, args ...string) *member {
	t.Helper()
	p := newMember(t, args[0], engines()[0])
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.client)
	}
	p.startArgs(append(args, "--listen-addr="+p.client, "--endpoints="+strings.Join(endpoints, ",")))
	return p
}

// What clients do goes through both proxies, in several streams at a time, and
// goes on when a member is lost.
func TestProxies(t *testing.T) {
	members := startCluster(t, engines()[0], 3)
	for _, args := range [][]string{{"grpc-proxy", "start", "--namespace=ns/"}, {"gateway", "start", "--retry-delay=1s"}} {
		t.Run(args[0], func(t *testing.T) {
			p := startProxy(t, members, args...)
			p.waitServing()
			c := client(t, p)
			ctx := within(t, time.Minute)
			watch := c.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
			if r := <-watch; !r.Created {
				t.Fatalf("watch: %v", r)
			}
			for i := range 10 {
				if _, err := c.Put(ctx, fmt.Sprintf("k%d", i), "v"); err != nil {
					t.Fatal(err)
				}
			}
			for n := 0; n < 10; {
				r := <-watch
				if r.Err() != nil {
					t.Fatal(r.Err())
				}
				n += len(r.Events)
			}
			session, err := concurrency.NewSession(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := concurrency.NewMutex(session, "lock").Lock(ctx); err != nil {
				t.Fatal(err)
			}
			if err := session.Close(); err != nil {
				t.Fatal(err)
			}
			if health := httpGet(t, "http://"+p.client+"/health"); !strings.Contains(health, `"health":"true"`) {
				t.Errorf("health %s", health)
			}
			lost := members[0]
			lost.kill()
			eventually(t, 30*time.Second, func() error {
				r, err := c.Get(ctx, "k", clientv3.WithPrefix(), clientv3.WithCountOnly())
				if err == nil && r.Count != 10 {
					err = errors.New("keys are missing")
				}
				return err
			})
			lost.start()
			lost.waitServing()
			p.terminate()
		})
	}
	r, err := client(t, members...).Get(within(t, time.Minute), "ns/k", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || r.Count != 10 {
		t.Errorf("keys of the namespace: %v, %v", r, err)
	}
}

func TestProxyRefusals(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"grpc-proxy start --resolver-prefix=x", "invalid resolver-ttl 0"},
		{"grpc-proxy start --resolver-ttl=5", `invalid resolver-prefix ""`},
		{"grpc-proxy start --tls-min-version=TLS1.3 --tls-max-version=TLS1.2", "min version (TLS1.3) is greater than max version (TLS1.2)"},
		{"grpc-proxy start --tls-min-version=TLS9", "tls-min-version is invalid"},
		{"grpc-proxy start --nonsense", "unknown flag: --nonsense"},
		{"gateway start --listen-addr=127.0.0.1:23790 --endpoints=127.0.0.1:23790", "should not resolve to the gateway listen addr"},
		{"gateway start --endpoints=nowhere", `error parsing endpoint "nowhere"`},
		{"gateway start --listen-addr=nowhere", "failed to validate listen address: nowhere"},
	} {
		_, errs, code := command(t, strings.Fields(c.args)...)
		if code == 0 || !strings.Contains(errs, c.want) {
			t.Errorf("%s ends with %d: %s", c.args, code, errs)
		}
	}
}

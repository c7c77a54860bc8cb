package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"metastore.io/metastore/server/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startMember returns the address of a member with the memory engine.
func startMember(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := node.DefaultConfig()
	c.Logger = slog.New(slog.DiscardHandler)
	c.StorageEngine, c.DataDir = node.EngineMemory, filepath.Join(t.TempDir(), "data")
	client, peer := []url.URL{{Scheme: "http", Host: addr}}, []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenClientURLs, c.AdvertiseClientURLs, c.ListenPeerURLs, c.AdvertisePeerURLs = client, client, peer, peer
	c.InitialCluster = "default=http://127.0.0.1:0"
	c.HeartbeatMillis, c.ElectionMillis = 10, 100
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Stop(context.Background()) })
	select {
	case <-n.Ready():
	case <-time.After(time.Minute):
		t.Fatal("the member is not ready")
	}
	return addr
}

// runScenario runs a scenario with its flags as a command line has them.
func runScenario(t *testing.T, name string, flags ...string) (*Report, error) {
	t.Helper()
	at := slices.IndexFunc(Scenarios(), func(s Scenario) bool { return s.Name == name })
	if at < 0 {
		t.Fatalf("there is no scenario %s", name)
	}
	s := Scenarios()[at]
	var c Config
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	s.Flags(&c, fs)
	if err := fs.Parse(flags); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return Run(ctx, s, c)
}

// small are runs that take a moment, with how many operations they have.
var small = []struct {
	scenario   string
	flags      string
	operations int64
}{
	{"put", "--count=500", 500},
	{"put", "--count=500 --sequential --connections=3 --in-flight=8", 500},
	{"put", "--count=20 --in-flight=4 --value-size=100000", 20},
	{"get", "--count=500", 500},
	{"get", "--count=500 --serializable --sequential", 500},
	{"range", "--count=50 --range-size=100", 50},
	{"range", "--count=50 --keys-only --serializable --range-size=1000", 50},
	{"range", "--count=50 --count-only --whole-prefix", 50},
	{"range", "--count=20 --stream --whole-prefix", 20},
	{"txn", "--count=500", 500},
	{"txn-mixed", "--count=500", 500},
	{"kubernetes", "--count=500 --in-flight=8", 500},
	{"watch", "--count=100 --watchers=30 --streams=3 --watched-keys=10", 300},
	{"watch", "--count=100 --watchers=5", 500},
	{"watch-lag", "--count=2000 --behind=500", 2000},
	{"snapshot", "--count=2000", 2000},
	{"lease-grant", "--count=300", 300},
	{"lease-keepalive", "--count=300 --leases=50 --in-flight=10", 300},
	{"lease-expiry", "--leases=50 --ttl=1", 50},
	{"delete", "--key-space=300", 300},
	{"delete", "--key-space=300 --count=100", 100},
}

func TestScenarios(t *testing.T) {
	for _, client := range []string{ClientLean, ClientGRPC} {
		for _, c := range small {
			t.Run(client+"/"+c.scenario+c.flags, func(t *testing.T) {
				t.Parallel()
				addr := startMember(t)
				flags := append([]string{"--endpoints=" + addr, "--client=" + client, "--key-space=1000", fmt.Sprint("--server-pid=", os.Getpid()), "--duration=1m"}, strings.Fields(c.flags)...)
				p, err := runScenario(t, c.scenario, flags...)
				if err != nil {
					t.Fatal(err)
				}
				if p.Total.Operations != c.operations || p.Total.P50 <= 0 || p.Total.Max < p.Total.P99 {
					t.Errorf("%d operations expected, got %+v", c.operations, p.Total)
				}
				if p.ClientCPU <= 0 || p.Server.RSSBytes <= 0 {
					t.Errorf("client CPU %v, server %+v", p.ClientCPU, p.Server)
				}
				var table, svg bytes.Buffer
				if err := errors.Join(p.Print(&table), p.Plot(&svg)); err != nil {
					t.Error(err)
				}
				checkXML(t, svg.Bytes())
			})
		}
	}
}

func TestADurationEndsTheRun(t *testing.T) {
	p, err := runScenario(t, "put", "--endpoints="+startMember(t), "--duration=100ms")
	if err != nil || p.Total.Operations == 0 || p.Seconds < 0.1 || p.Seconds > 30 {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestBadFlagsAreNamed(t *testing.T) {
	for flags, want := range map[string]string{
		"--connections=0":                   "--connections=0 is not valid: 1 to 100000 is allowed",
		"--key-size=8":                      "--key-size=8 is not valid: 11 to 65536, for --prefix=bench/ and --key-space=10000, is allowed",
		"--client=curl":                     "--client=curl is not valid: lean or grpc is allowed",
		"--endpoints=ftp://a:1":             "--endpoints=ftp://a:1 is not valid: host:port, http://host:port or https://host:port is allowed",
		"--duration=0s":                     "--duration=0s is not valid: a time above 0 is allowed",
		"--value-size=4":                    "--value-size=4 is not valid: 8 to 1073741824 is allowed",
		"--endpoints=127.0.0.1:1":           "connection refused",
		"--cacert=/nowhere --endpoints=a:1": "read the TLS files",
	} {
		_, err := runScenario(t, "put", strings.Fields(flags)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", flags, err, want)
		}
	}
}

// A server that takes connections and says nothing does not hold the run.
func TestASilentServerIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := runScenario(t, "put", "--endpoints="+l.Addr().String(), "--timeout=100ms"); err == nil {
		t.Error("no error")
	}
}

func checkXML(t *testing.T, b []byte) {
	t.Helper()
	d := xmlDecoder(b)
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
	}
}

package install

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// scrapeMembers starts three members, puts and reads a key, and returns the
// names of all samples that any of them has.
func scrapeMembers(t *testing.T, engine string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	endpoints := startMembers(t, engine, 3)
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Put(ctx, "a", "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, endpoint := range endpoints {
		out = append(out, scrape(ctx, t, endpoint)...)
	}
	return out
}

func scrape(ctx context.Context, t *testing.T, endpoint string) []string {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for name, family := range families {
		out = append(out, name)
		if len(family.Metric) > 0 && family.Metric[0].Histogram != nil {
			out = append(out, name+"_bucket", name+"_count", name+"_sum")
		}
	}
	return out
}

// startMembers runs members as processes until the test ends; what they log is
// shown when it fails.
func startMembers(t *testing.T, engine string, n int) (endpoints []string) {
	t.Helper()
	server := program(t, "./server/cmd/metastore")
	var peers, initial []string
	for i := range n {
		peers = append(peers, freeURL(t))
		endpoints = append(endpoints, freeURL(t))
		initial = append(initial, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	for i := range n {
		cmd := exec.Command(string(server), "--name", fmt.Sprintf("m%d", i), "--data-dir", t.TempDir(), "--storage-engine", engine,
			"--listen-client-urls", endpoints[i], "--advertise-client-urls", endpoints[i],
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i], "--initial-cluster", strings.Join(initial, ","))
		var log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &log, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed, and says so
			if t.Failed() {
				t.Logf("m%d ends with: %s", i, log.Bytes()[max(0, log.Len()-1000):])
			}
		})
	}
	return endpoints
}

func freeURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

package rpc

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metastore.io/metastore/server/watch"

	"google.golang.org/grpc"
)

func TestGateway(t *testing.T) {
	b := newMember(t, watch.Options{})
	s, err := New(b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(s.ServerOptions()...)
	s.Register(g)
	gateway, err := s.NewGateway(g)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(gateway)
	client := h.Client()
	defer func() {
		client.CloseIdleConnections()
		if err := gateway.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		h.Close()
	}()
	post := func(path, body string) *http.Response {
		t.Helper()
		resp, err := client.Post(h.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	text := func(resp *http.Response) string {
		t.Helper()
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(body), " ", "")
	}
	const header = `"header":{"cluster_id":"193","member_id":"161","revision":"2","raft_term":"5"}`
	if got := text(post("/v3/kv/put", `{"key":"Zm9v","value":"YmFy","odd":1}`)); got != "{"+header+"}" {
		t.Errorf("put: %s", got)
	}
	want := `{` + header + `,"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}`
	if got := text(post("/v3/kv/range", `{"key":"Zm9v"}`)); got != want {
		t.Errorf("range:\n got %s\nwant %s", got, want)
	}
	bad := post("/v3/kv/put", `{}`)
	if got := text(bad); bad.StatusCode != http.StatusBadRequest || !strings.Contains(got, "etcdserver:keyisnotprovided") {
		t.Errorf("bad put: %d %s", bad.StatusCode, got)
	}
	events := post("/v3/watch", `{"create_request":{"key":"Zm9v","start_revision":"2"}}`)
	defer events.Body.Close()
	lines := bufio.NewScanner(events.Body)
	for _, want := range []string{`"created":true`, `"value":"YmFy"`} {
		if !lines.Scan() || !strings.Contains(strings.ReplaceAll(lines.Text(), " ", ""), want) {
			t.Errorf("watch: %s lacks %s", lines.Text(), want)
		}
	}
	nothing := post("/nothing", "")
	if text(nothing); nothing.StatusCode != http.StatusNotFound {
		t.Errorf("unknown path: %d", nothing.StatusCode)
	}
}

// A client that is known by its certificate must not believe that the gateway
// speaks for it.
func TestGatewayRefusesNamesOfCertificates(t *testing.T) {
	named := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "root"}}}}}
	nameless := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	for _, c := range []struct {
		certUsers, enabled bool
		tls                *tls.ConnectionState
		refused            bool
	}{
		{true, true, named, true},
		{true, true, nameless, false},
		{true, true, nil, false},
		{true, false, named, false},
		{false, true, named, false},
	} {
		s := serve(t, Options{Auth: AuthOptions{CertUsers: c.certUsers, BcryptCost: 4}}, watch.Options{})
		if c.enabled {
			ctx := t.Context()
			for _, err := range []error{
				failure(s.client.UserAdd(ctx, "root", "r")), failure(s.client.RoleAdd(ctx, "root")),
				failure(s.client.UserGrantRole(ctx, "root", "root")), failure(s.client.AuthEnable(ctx)),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := s.s.ignoresName(c.tls); got != c.refused {
			t.Errorf("certificates name users %v, auth %v, TLS %+v: refused %v", c.certUsers, c.enabled, c.tls, got)
		}
	}
}

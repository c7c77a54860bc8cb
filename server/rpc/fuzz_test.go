package rpc

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"metastore.io/metastore/server/watch"
)

// gatewayPaths are calls that end by themselves.
var gatewayPaths = []string{
	"/v3/kv/range", "/v3/kv/put", "/v3/kv/deleterange", "/v3/kv/txn", "/v3/kv/compaction",
	"/v3/lease/grant", "/v3/lease/revoke", "/v3/lease/timetolive", "/v3/lease/leases", "/v3/lease/keepalive",
	"/v3/cluster/member/list", "/v3/cluster/member/update", "/v3/cluster/member/promote",
	"/v3/maintenance/status", "/v3/maintenance/hashkv", "/v3/maintenance/alarm",
	"/v3/auth/status", "/v3/auth/authenticate", "/v3/auth/user/list", "/v3/auth/role/get", "/v3/auth/role/grant",
	"/v3/watch",
}

// FuzzGateway posts any JSON. The answer is a JSON with a gRPC code where it is
// an error, in time, and the server serves on.
func FuzzGateway(f *testing.F) {
	for _, seed := range []struct{ path, body string }{
		{"/v3/kv/put", `{"key":"Zm9v","value":"YmFy","lease":"0","prev_kv":true}`},
		{"/v3/kv/put", `{"key":17}`},
		{"/v3/kv/range", `{"key":"AA==","range_end":"AA==","limit":"-1","sort_order":"DESCEND","sort_target":9}`},
		{"/v3/kv/txn", `{"compare":[{"key":"YQ==","target":"VALUE","value":"Yg=="}],"success":[{"requestPut":{"key":"YQ=="}}],"failure":[{"request_txn":{"success":[{}]}}]}`},
		{"/v3/kv/txn", `{"compare":[null],"success":[null]}`},
		{"/v3/kv/compaction", `{"revision":"99999999999999999999"}`},
		{"/v3/lease/grant", `{"TTL":1e3,"ID":"-1"}`},
		{"/v3/lease/keepalive", `{"ID":1}{"ID":2}`},
		{"/v3/auth/role/grant", `{"name":"r","perm":{"permType":2,"key":"","range_end":"AA=="}}`},
		{"/v3/maintenance/alarm", `{"action":"GET","alarm":"NONE"}`},
		{"/v3/watch", `{"create_request":{"key":"Zm9v","start_revision":"2"}}`},
		{"/v3/watch", `{"cancel_request":{"watch_id":7}}`},
		{"/v3/cluster/member/list", ``},
		{"/v3/kv/range", `{"key":"`},
	} {
		f.Add(uint8(slices.Index(gatewayPaths, seed.path)), []byte(seed.body))
	}
	gateway := fuzzGateway(f)
	f.Fuzz(func(t *testing.T, path uint8, body []byte) {
		post := func(path, body string) (int, string) {
			// A watch that was created ends with its context.
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if path == "/v3/watch" {
				ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
			}
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)).WithContext(ctx)
			r.Header.Set("Content-Type", "application/json")
			gateway.ServeHTTP(w, r)
			if ctx.Err() != nil && path != "/v3/watch" {
				t.Fatalf("%s %q is not answered", path, body)
			}
			return w.Code, w.Body.String()
		}
		where := gatewayPaths[int(path)%len(gatewayPaths)]
		code, answer := post(where, string(body))
		for d := json.NewDecoder(strings.NewReader(answer)); d.More(); {
			var one struct {
				Code  int    `json:"code"`
				Error string `json:"error"`
			}
			if err := d.Decode(&struct{}{}); err != nil {
				t.Fatalf("%s %q is answered by %d %q: %v", where, body, code, answer, err)
			}
			if json.Unmarshal([]byte(answer), &one) == nil && code >= 400 && one.Code == 0 {
				t.Fatalf("%s %q is answered by %d %q", where, body, code, answer)
			}
		}
		// 500 would be an error that nobody translated.
		if code == http.StatusInternalServerError {
			t.Fatalf("%s %q is answered by %d %q", where, body, code, answer)
		}
		if code, answer := post("/v3/kv/range", `{"key":"AA=="}`); code != http.StatusOK && !strings.Contains(answer, "etcdserver") {
			t.Fatalf("after %s %q a range is answered by %d %q", where, body, code, answer)
		}
	})
}

// fuzzGateway is the gateway to a member.
func fuzzGateway(f *testing.F) *Gateway {
	f.Helper()
	b := newMember(f, watch.Options{})
	s, err := New(b, Options{})
	if err != nil {
		f.Fatal(err)
	}
	g := grpc.NewServer(s.ServerOptions()...)
	s.Register(g)
	gateway, err := s.NewGateway(g)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		b.hub.Close()
		if err := gateway.Close(); err != nil {
			f.Error(err)
		}
		g.Stop()
	})
	return gateway
}

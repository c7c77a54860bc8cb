package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"metastore.io/metastore/server/watch"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
)

// serveGateway is the URL of a gateway to a member.
func serveGateway(t *testing.T, o Options) string {
	t.Helper()
	b := newMember(t, watch.Options{})
	s, err := New(b, o)
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
	t.Cleanup(func() {
		if err := gateway.Close(); err != nil {
			t.Error(err)
		}
		b.hub.Close()
		g.Stop()
		h.Close()
	})
	return h.URL
}

// own are the fields that are each server's own.
var own = map[string]bool{
	"cluster_id": true, "member_id": true, "raft_term": true, "members": true, "leader": true, "raftIndex": true,
	"raftAppliedIndex": true, "raftTerm": true, "dbSize": true, "dbSizeInUse": true, "hash": true, "token": true,
}

func withoutOwn(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	for k, inner := range m {
		if own[k] {
			delete(m, k)
		} else {
			m[k] = withoutOwn(inner)
		}
	}
	return m
}

// alike is a JSON text without what is each server's own.
func alike(text string) string {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return strings.Join(strings.Fields(text), " ") // protobuf's errors have spaces at random
	}
	b, err := json.Marshal(withoutOwn(v))
	if err != nil {
		return text
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(string(b), "\u00a0", " ")), " ")
}

// request posts and tells status, kind and text of the answer.
func request(t *testing.T, method, url, token, body string) (answer, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("Content-Type"), alike(string(b))), string(b)
}

const base64Users = `{"name":"root","password":"r"}`

// What the gateway answers to good and bad requests, as a real etcd: status,
// kind and JSON.
func TestSameGatewayAsEtcd(t *testing.T) {
	etcd := "http://" + startEtcd(t).Target()
	mine := serveGateway(t, Options{Auth: AuthOptions{BcryptCost: 4}})
	defer http.DefaultClient.CloseIdleConnections()
	var tokens [2]string
	both := func(method, path, body string) {
		t.Helper()
		want, etcdText := request(t, method, etcd+path, tokens[0], body)
		got, mineText := request(t, method, mine+path, tokens[1], body)
		if want != got {
			t.Errorf("%s %s %s:\netcd:      %s\nMetaStore: %s", method, path, body, want, got)
		}
		if path == "/v3/auth/authenticate" {
			for i, text := range []string{etcdText, mineText} {
				var v struct{ Token string }
				if json.Unmarshal([]byte(text), &v) == nil {
					tokens[i] = v.Token
				}
			}
		}
	}
	post := func(path, body string) {
		t.Helper()
		both(http.MethodPost, path, body)
	}
	post("/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`)
	post("/v3/kv/put", `{"key":"Zm9v","value":"YmFy","prev_kv":true,"unknown":7}`)
	post("/v3/kv/range", `{"key":"AA==","range_end":"AA=="}`)
	post("/v3/kv/range", `{"key":"Zm9v","revision":"77"}`)
	post("/v3/kv/range", `{"key":"Zm9v","sort_order":"DESCEND","sort_target":"VERSION","limit":"1"}`)
	post("/v3/kv/range", `{"key":"Zm9v","sort_order":7}`)
	post("/v3/kv/txn", `{"compare":[{"target":"CREATE","key":"Zm9v","createRevision":"2","result":"EQUAL"}],"success":[{"requestPut":{"key":"Zm9v","value":"eA=="}}]}`)
	post("/v3/kv/txn", `{"success":[{"requestPut":{"key":"Zm9v"}},{"requestPut":{"key":"Zm9v"}}]}`)
	post("/v3/kv/compaction", `{"revision":"3"}`)
	post("/v3/kv/compaction", `{"revision":"3"}`)
	post("/v3/kv/compaction", `{"revision":3000}`)
	post("/v3/kv/deleterange", `{"key":"Zm9v","prev_kv":true}`)
	post("/v3/lease/grant", `{"ID":17,"TTL":100}`)
	post("/v3/lease/grant", `{"ID":17,"TTL":100}`)
	post("/v3/lease/grant", `{"ID":18,"TTL":9000000001}`)
	post("/v3/lease/timetolive", `{"ID":170}`)
	post("/v3/lease/leases", `{}`)
	post("/v3/lease/revoke", `{"ID":170}`)
	post("/v3/lease/revoke", `{"ID":17}`)
	post("/v3/lease/keepalive", `{"ID":17}`)
	post("/v3/lock/lock", `{"name":"bA==","lease":"19"}`)
	post("/v3/lock/unlock", `{"key":""}`)
	post("/v3/election/leader", `{"name":"bA=="}`)
	post("/v3/election/proclaim", `{}`)
	post("/v3/election/resign", `{}`)
	post("/v3/maintenance/alarm", `{"action":"ACTIVATE","memberID":"7","alarm":"CORRUPT"}`)
	post("/v3/maintenance/alarm", `{}`)
	post("/v3/kv/put", `{"key":"Zm9v"}`)
	post("/v3/maintenance/alarm", `{"action":"DEACTIVATE","memberID":"7","alarm":"CORRUPT"}`)
	post("/v3/maintenance/alarm", `{"action":"NONSENSE"}`)
	post("/v3/maintenance/defragment", `{}`)
	post("/v3/maintenance/transfer-leadership", `{"targetID":"1"}`)
	post("/v3/cluster/member/list", `{}`)
	post("/v3/cluster/member/remove", `{"ID":"99"}`)
	post("/v3/cluster/member/promote", `{"ID":"99"}`)
	post("/v3/cluster/member/add", `{"peerURLs":["not a URL"]}`)
	// No JSON, and JSON of the wrong kind.
	post("/v3/kv/put", ``)
	post("/v3/kv/put", `{`)
	post("/v3/kv/put", `[]`)
	post("/v3/kv/put", `{"key":"Zm9v","lease":"x"}`)
	post("/v3/kv/put", `{"key":"Zm9v","lease":"99999999999999999999"}`)
	post("/v3/kv/put", `{"key":"***"}`)
	post("/v3/kv/put", `{"key":7}`)
	post("/v3/kv/put", `{"key":"Zm9v","prev_kv":"yes"}`)
	post("/v3/kv/range", `{"key":"Zm9v","sort_order":"SIDEWAYS"}`)
	post("/v3/nothing", `{}`)
	both(http.MethodGet, "/v3/kv/range", ``)
	both(http.MethodPut, "/v3/kv/range", `{}`)
	post("/v3beta/kv/range", `{"key":"Zm9v"}`)
	// Users.
	post("/v3/auth/status", `{}`)
	post("/v3/auth/authenticate", base64Users)
	post("/v3/auth/user/add", base64Users)
	post("/v3/auth/role/add", `{"name":"root"}`)
	post("/v3/auth/user/grant", `{"user":"root","role":"root"}`)
	post("/v3/auth/user/get", `{"name":"nobody"}`)
	post("/v3/auth/enable", `{}`)
	post("/v3/kv/range", `{"key":"Zm9v"}`)
	post("/v3/auth/authenticate", `{"name":"root","password":"wrong"}`)
	post("/v3/auth/authenticate", base64Users)
	post("/v3/kv/range", `{"key":"Zm9v"}`)
	tokens[0], tokens[1] = "Bearer "+tokens[0], "Bearer "+tokens[1]
	post("/v3/kv/range", `{"key":"Zm9v"}`)
	tokens = [2]string{"not.a.token", "not.a.token"}
	post("/v3/kv/range", `{"key":"Zm9v"}`)
}

// Streams through websockets, side by side with a real etcd.
func TestSameWebsocketsAsEtcd(t *testing.T) {
	etcd := "http://" + startEtcd(t).Target()
	mine := serveGateway(t, Options{})
	defer http.DefaultClient.CloseIdleConnections()
	var told [2][]string
	for i, base := range []string{etcd, mine} {
		open := func(path string) *websocket.Conn {
			t.Helper()
			c, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(base, "http")+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			t.Cleanup(func() { _ = c.Close() })
			if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			return c
		}
		send := func(c *websocket.Conn, text string) {
			t.Helper()
			if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		read := func(c *websocket.Conn) {
			t.Helper()
			_, b, err := c.ReadMessage()
			if err != nil {
				b = []byte(err.Error())
			}
			told[i] = append(told[i], alike(string(b)))
		}
		w := open("/v3/watch")
		send(w, `{"create_request":{"key":"Zm9v","watch_id":3}}`)
		read(w)
		request(t, http.MethodPost, base+"/v3/kv/put", "", `{"key":"Zm9v","value":"MQ=="}`)
		read(w)
		send(w, `{"create_request":{"key":"YmFy","watch_id":4,"start_revision":"1"}}`)
		read(w)
		large := strings.Repeat("QUFB", 200_000) // more than a line of a scanner holds
		request(t, http.MethodPost, base+"/v3/kv/put", "", `{"key":"YmFy","value":"`+large+`"}`)
		read(w)
		send(w, `{"progress_request":{}}`)
		read(w)
		send(w, `{"cancel_request":{"watch_id":"3"}}`)
		read(w)
		request(t, http.MethodPost, base+"/v3/lease/grant", "", `{"ID":"5","TTL":"1000"}`)
		l := open("/v3/lease/keepalive")
		for _, id := range []string{"5", "6", "5"} {
			send(l, `{"ID":"`+id+`"}`)
			read(l)
		}
		// A stream without a client's part is a request like all others.
		_, lines := request(t, http.MethodPost, base+"/v3/maintenance/snapshot", "", `{}`)
		for n, line := range strings.Split(strings.TrimSpace(lines), "\n") {
			if !strings.HasPrefix(line, `{"result":{"remaining_bytes":"`) && !strings.HasPrefix(line, `{"result":{"blob":"`) {
				t.Errorf("line %d of the snapshot: %.100s", n, line)
			}
		}
	}
	for i, want := range told[0] {
		if got := told[1][i]; got != want {
			t.Errorf("message %d:\netcd:      %.300s\nMetaStore: %.300s", i, want, got)
		}
	}
}

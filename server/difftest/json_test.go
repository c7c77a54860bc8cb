package difftest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// oddBodies are where the requests for the gateway begin.
var oddBodies = []struct{ path, body string }{
	{"/v3/kv/range", `{"key":"YQ==","range_end":"AA==","limit":"2","sort_order":"DESCEND","sort_target":"MOD","serializable":true}`},
	{"/v3/kv/put", `{"key":"YQ==","value":"dg==","lease":"0","prev_kv":true,"ignore_value":false}`},
	{"/v3/kv/deleterange", `{"key":"Yg==","range_end":"","prev_kv":true}`},
	{"/v3/kv/txn", `{"compare":[{"key":"YQ==","target":"VALUE","result":"EQUAL","value":"dg=="}],"success":[{"request_put":{"key":"Yg==","value":"eA=="}}],"failure":[{"requestRange":{"key":"YQ=="}}]}`},
	{"/v3/kv/compaction", `{"revision":"1","physical":true}`},
	{"/v3/lease/grant", `{"ID":"7","TTL":"1000000"}`},
	{"/v3/lease/revoke", `{"ID":"7"}`},
	{"/v3/lease/timetolive", `{"ID":"8","keys":true}`},
	{"/v3/lease/keepalive", `{"ID":"8"}`},
	{"/v3/cluster/member/list", `{"linearizable":true}`},
	{"/v3/cluster/member/update", `{"ID":"5","peerURLs":["http://127.0.0.1:1","no URL"]}`},
	{"/v3/maintenance/hashkv", `{"revision":"1000000"}`},
	{"/v3/auth/authenticate", `{"name":"u1","password":"u1"}`},
	{"/v3/auth/role/grant", `{"name":"r1","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}`},
	{"/v3/auth/user/get", `{"name":"u1"}`},
	{"/v3/election/resign", `{"leader":{"name":"bg==","key":"aw==","rev":"1","lease":"8"}}`},
}

// oddJSON are values of all kinds, and what is none.
var oddJSON = []string{
	`null`, `true`, `"true"`, `0`, `1`, `-1`, `1.5`, `1e3`, `"1e3"`, `1e99`, `"-1"`, `"1 "`, `""`, `"x"`, `"YQ=="`, `"YQ"`, `"_-8="`, `"***"`,
	`[]`, `{}`, `[null]`, `[1,2]`, `["YQ=="]`, `{"key":"YQ=="}`, `99999999999999999999`, `"99999999999999999999"`, `0x1`, `NaN`, `nope`, `'x'`,
	`"\ud800"`, "\"\xff\"", `"\u0000"`, `"READ"`, `2`, `77`, `"EQUAL"`, `[[[[[[[[]]]]]]]]`, ``, `,`, `}`, `"`,
}

var (
	jsonValue  = regexp.MustCompile(`:("[^"]*"|true|false|null|\[|\{)`)
	ownNumbers = regexp.MustCompile(`"(raft_term|cluster_id|member_id|ID|token)":"[^"]*"`)
)

// mutated is a body with something wrong.
func mutated(r *rand.Rand, body string) string {
	switch at := r.IntN(len(body)); r.IntN(10) {
	case 0:
		return body[:at]
	case 1:
		return body[:at] + pickOf(r, oddJSON) + body[at:]
	case 2:
		return body + pickOf(r, oddJSON)
	case 3:
		return strings.Replace(body, `{"`, `{"unknown":`+pickOf(r, oddJSON)+`,"`, 1)
	case 4: // the same field again
		return strings.TrimSuffix(body, "}") + "," + strings.TrimPrefix(body, "{")
	case 5: // a name in other letters
		return strings.Replace(body, `_`, ``, 1)
	case 6:
		return pickOf(r, oddJSON)
	}
	values := jsonValue.FindAllStringIndex(body, -1)
	v := values[r.IntN(len(values))]
	return body[:v[0]+1] + pickOf(r, oddJSON) + body[v[1]:]
}

// oddHTTP is a request to the gateway.
type oddHTTP struct{ method, path, kind, body string }

func (o oddHTTP) send(t *testing.T, addr string) string {
	r, err := http.NewRequestWithContext(t.Context(), o.method, "http://"+addr+o.path, strings.NewReader(o.body))
	if err != nil {
		t.Error(err)
		return ""
	}
	r.Header.Set("Content-Type", o.kind)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return strings.ReplaceAll(err.Error(), addr, "ADDR")
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	text := strings.ReplaceAll(ownNumbers.ReplaceAllString(string(body), `"$1":"N"`), addr, "ADDR")
	return fmt.Sprintf("%d %s %s %s %v", resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Location"), text, err)
}

// JSON of the wrong kind, no JSON, paths and methods that there are not: status
// and text are etcd's.
func TestSameAnswersToOddJSON(t *testing.T) {
	if testing.Short() {
		t.Skip("plays many requests to an etcd server")
	}
	rng := rand.New(rand.NewPCG(*seed, 2))
	var all []oddHTTP
	for _, o := range oddBodies {
		for range 60 {
			all = append(all, oddHTTP{"POST", o.path, "application/json", mutated(rng, o.body)})
		}
		for _, method := range []string{"GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "post"} {
			all = append(all, oddHTTP{method, o.path, "application/json", o.body})
		}
		for _, kind := range []string{"", "text/plain", "application/xml", "application/json; charset=latin1", "application/x-www-form-urlencoded", "*/*"} {
			all = append(all, oddHTTP{"POST", o.path, kind, o.body})
		}
	}
	const body = `{"key":"YQ=="}`
	for _, path := range []string{
		"/v3", "/v3/", "/v3/kv", "/v3/kv/", "/v3/kv/range/", "/v3//kv/range", "//v3/kv/range", "/v3/KV/range", "/v3/kv/range?key=Yg==",
		"/v3/kv/range?pretty", "/v3/kv/range:x", "/v3/kv/%72ange", "/v3/./kv/range", "/v3alpha/kv/range", "/v3beta/kv/range", "/v3beta/",
		"/v2/keys/a", "/v4/kv/range", "/v3/lease/../kv/range", "/v3/maintenance/nothing", "/v3/lock", "/v3/kv/range#x",
	} {
		for _, method := range []string{"POST", "GET"} {
			all = append(all, oddHTTP{method, path, "application/json", body})
		}
	}
	sides := startSides(t, limits{tcp: true})
	answers := make([][]string, len(sides))
	var playing sync.WaitGroup
	for i, s := range sides {
		playing.Go(func() {
			for _, o := range all {
				answers[i] = append(answers[i], o.send(t, s.addr))
			}
		})
	}
	playing.Wait()
	kinds := map[string]int{}
	for n, o := range all {
		kinds[answers[0][n][:3]]++
		for i, s := range sides {
			if got, want := answers[i][n], answers[0][n]; got != want {
				t.Errorf("%+q\n%s: %s\netcd: %s", o, s.name, got, want)
			}
		}
	}
	t.Logf("seed %d: %d requests, by status %v", *seed, len(all), kinds)
}

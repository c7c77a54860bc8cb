package difftest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// framed puts gRPC's prefix before a message.
func framed(flag byte, size int, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{flag}, uint32(size))
	return append(b, body...)
}

// http2Request is a request as gRPC sends it, or not quite.
type http2Request struct {
	method, path string
	header       map[string]string
	body         []byte
}

// told are the headers that say something about the answer.
var told = []string{"Content-Type", "Grpc-Encoding", "Grpc-Status", "Grpc-Message", "Allow", "Location"}

// send gives what came back, as text.
func (r http2Request) send(t *testing.T, addr string) string {
	t.Helper()
	tr := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, "http://"+addr+r.path, bytes.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range r.header {
		if req.Header[k] = []string{v}; v == "" {
			delete(req.Header, k)
		}
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "error " + strings.ReplaceAll(err.Error(), addr, "ADDR")
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	text := fmt.Sprintf("%d, body of %v bytes, error %v", resp.StatusCode, len(body) > 0, err)
	for _, h := range []http.Header{resp.Header, resp.Trailer} {
		for _, k := range told {
			if v := h.Get(k); v != "" {
				text += fmt.Sprintf(", %s: %s", k, v)
			}
		}
	}
	return text
}

// What clients of HTTP/2 send that no library of gRPC would, or only one that
// compresses.
func TestSameHTTP2AsEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd server")
	}
	message, err := proto.Marshal(&pb.RangeRequest{Key: []byte("a")})
	if err != nil {
		t.Fatal(err)
	}
	good := framed(0, len(message), message)
	const path = pb.KV_Range_FullMethodName
	with := func(pairs ...string) map[string]string {
		h := map[string]string{"Content-Type": "application/grpc", "Te": "trailers"}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = pairs[i+1]
		}
		return h
	}
	sides := startSides(t, limits{tcp: true})
	for _, r := range []http2Request{
		{"POST", path, with(), good},
		{"POST", path, with("Content-Type", "application/grpc+proto"), good},
		{"POST", path, with("Content-Type", "application/grpc+json"), good},
		{"POST", path, with("Content-Type", "application/grpc;x"), good},
		{"POST", path, with("Content-Type", "application/json"), good},
		{"POST", path, with("Content-Type", ""), good},
		{"GET", path, with(), good},
		{"PUT", path, with(), good},
		{"POST", path, with("Te", ""), good},
		{"POST", path, with("Grpc-Timeout", "1S"), good},
		{"POST", path, with("Grpc-Timeout", "1x"), good},
		{"POST", path, with("Grpc-Timeout", "S"), good},
		{"POST", path, with("Grpc-Timeout", "999999999S"), good},
		{"POST", path, with("Grpc-Timeout", "-1S"), good},
		{"POST", path, with("Grpc-Timeout", "0n"), good},
		{"POST", path, with("Grpc-Encoding", "snappy"), good},
		{"POST", path, with("Grpc-Encoding", "snappy"), framed(1, len(message), message)},
		{"POST", path, with("Grpc-Encoding", "identity"), framed(1, len(message), message)},
		{"POST", path, with("Grpc-Encoding", "gzip"), framed(1, len(message), message)},
		{"POST", path, with("Grpc-Encoding", "gzip"), good},
		{"POST", path, with("Grpc-Accept-Encoding", "gzip"), good},
		{"POST", path, with("Grpc-Accept-Encoding", "snappy"), good},
		{"POST", path, with(), framed(1, len(message), message)},
		{"POST", path, with(), framed(7, len(message), message)},
		{"POST", path, with(), framed(0, len(message)+1, message)},
		{"POST", path, with(), framed(0, 0, nil)},
		{"POST", path, with(), framed(0, 1<<31, message)},
		{"POST", path, with(), append(slices.Clone(good), good...)},
		{"POST", path, with(), good[:3]},
		{"POST", path, with(), nil},
		{"POST", path, with("Grpc-Tags-Bin", "*"), good},
		{"POST", path, with("Token", "caf\xe9"), good},
		{"POST", path, with("Client-Api-Version", "caf\xe9"), good},
		{"POST", path, with("User-Agent", ""), good},
		{"POST", path, with("Connection", "close"), good},
		{"POST", path, with("X-Large", strings.Repeat("x", 1<<16)), good},
		{"POST", "/v3/kv/range", map[string]string{"Content-Type": "application/json"}, []byte(`{"key":"YQ=="}`)},
		{"GET", "/version", nil, nil},
		{"GET", "/health", nil, nil},
	} {
		want := r.send(t, sides[0].addr)
		t.Logf("%s %s %.100v: %.200s", r.method, r.path, r.header, want)
		for _, s := range sides[1:] {
			if got := r.send(t, s.addr); got != want {
				t.Errorf("%s %s %.200v %.40q:\n%s: %s\netcd: %s", r.method, r.path, r.header, r.body, s.name, got, want)
			}
		}
	}
}

// passing is what is another one in every answer.
var passing = regexp.MustCompile(`Date: [^\r]*|"raft_term":"\d+"`)

// talk sends bytes and gives all that comes back until the server closes, or
// says nothing for as long as it is given.
func talk(t *testing.T, addr, text string, patience time.Duration) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return "write " + errors.Unwrap(err).Error()
	}
	var got []byte
	for b := make([]byte, 64<<10); ; {
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		got = append(got, b[:n]...)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Sprintf("%q, open", passing.ReplaceAll(got, nil))
		default: // closed, or reset where it had not read all
			return fmt.Sprintf("%q, closed", passing.ReplaceAll(got, nil))
		}
	}
}

// What comes to the port for clients that is no gRPC: HTTP/1 of all kinds, TLS
// where there is none, and bytes that are nothing.
func TestSameAnswersToOddBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd server")
	}
	sides := startSides(t, limits{tcp: true})
	post := func(path, kind, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", path, kind, len(body), body)
	}
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/9.9\r\n\r\n",
		"GET /\r\n\r\n",
		"HELLO\r\n\r\n",
		"GET /etcdserverpb.KV/Range HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		post(pb.KV_Range_FullMethodName, "application/grpc", "\x00\x00\x00\x00\x03\x0a\x01a"),
		post("/v3/kv/range", "application/grpc", `{"key":"YQ=="}`),
		post("/v3/kv/range", "text/plain", `{"key":"YQ=="}`),
		post("/v3/kv/range", "", `{"key":"YQ`),
		"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"OPTIONS /v3/kv/range HTTP/1.1\r\nHost: x\r\nOrigin: http://y\r\nConnection: close\r\n\r\n",
		"CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /v2/keys HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /v3/watch HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
		"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + strings.Repeat("\x00", 100), // hello of TLS
		"\x00\x00\x00\x00", "\xff\xff\xff\xff\xff\xff\xff\xff", "\r\n\r\n", strings.Repeat("A", 100_000),
	} {
		const quick, slow = 100 * time.Millisecond, 3 * time.Second
		want := talk(t, sides[0].addr, text, quick)
		t.Logf("%.40q: %.200s", text, want)
		for _, s := range sides[1:] {
			if talk(t, s.addr, text, quick) == want {
				continue
			}
			// One of them may have had no time.
			want = talk(t, sides[0].addr, text, slow)
			if got := talk(t, s.addr, text, slow); got != want {
				t.Errorf("%.100q:\n%s: %s\netcd: %s", text, s.name, got, want)
			}
		}
	}
}

// The gateway and all else of HTTP is there on a Unix socket, too.
func TestSameHTTPOnSockets(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd server")
	}
	var answers []string
	sides := startSides(t, limits{})
	for _, s := range sides {
		tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.addr)
		}}
		defer tr.CloseIdleConnections()
		text := ""
		for _, path := range []string{"/version", "/health", "/v3/kv/range"} {
			resp, err := (&http.Client{Transport: tr, Timeout: callTimeout}).Post("http://x"+path, "application/json", strings.NewReader(`{"key":"YQ=="}`))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			text += fmt.Sprintln(resp.Status, regexp.MustCompile(`"\d{3,}"`).ReplaceAllString(string(body), "N"), err)
		}
		answers = append(answers, text)
	}
	for i, s := range sides {
		if answers[i] != answers[0] {
			t.Errorf("%s: %s\netcd: %s", s.name, answers[i], answers[0])
		}
	}
}

// In this process etcd brings the decompressor along, which has to be in the
// program as well.
func TestProgramTakesCompressedRequests(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "metastore.io/metastore/server/cmd/metastore").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "google.golang.org/grpc/encoding/gzip\n") {
		t.Error("the program has no decompressor for gzip")
	}
}

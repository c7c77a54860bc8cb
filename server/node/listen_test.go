package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// One address can be served with TLS and without; HTTP can have its own.
func TestClientEndpoints(t *testing.T) {
	a := newAuthority(t, "ca")
	server := a.issue("server", "server", nil)
	socket := filepath.Join(t.TempDir(), "s")
	onlyHTTP := freeAddress(t)
	mixed := startMember(t, func(c *Config) {
		c.ClientTLS.CertFile, c.ClientTLS.KeyFile = server.cert, server.key
		plain := c.ListenClientURLs[0]
		plain.Scheme = "http"
		c.ListenClientURLs = append(c.ListenClientURLs, plain, mustURL(t, "unix://"+socket), mustURL(t, "unixs://"+socket+"s"))
	})
	split := startMember(t, func(c *Config) {
		c.ClientTLS.CertFile, c.ClientTLS.KeyFile = server.cert, server.key
		c.ListenClientHTTPURLs = []url.URL{mustURL(t, "https://"+onlyHTTP)}
	})
	secure := credentials.NewTLS(a.client(nil))
	for _, c := range []struct {
		name, endpoint string
		secure         credentials.TransportCredentials
		in             bool
	}{
		{"TLS", mixed.client, secure, true},
		{"plain", mixed.client, nil, true},
		{"socket", "unix://" + socket, nil, true},
		{"split", split.client, secure, true},
		{"split, HTTP's address", onlyHTTP, secure, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := clientv3.Config{Endpoints: []string{c.endpoint}, Logger: zap.NewNop()}
			if c.secure != nil {
				config.DialOptions = []grpc.DialOption{grpc.WithTransportCredentials(c.secure)}
			}
			client, err := clientv3.New(config)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if !c.in {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			}
			defer cancel()
			if _, err := client.Get(ctx, "k"); (err == nil) != c.in {
				t.Errorf("%v, want in: %v", err, c.in)
			}
		})
	}
	overSocket := &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c := a.client(nil)
		c.ServerName = "localhost"
		return (&tls.Dialer{Config: c}).DialContext(ctx, "unix", socket+"s")
	}}
	defer overSocket.CloseIdleConnections()
	for name, get := range map[string]func() (*http.Response, error){
		"plain HTTP beside TLS": func() (*http.Response, error) { return http.Get("http://" + mixed.client + "/version") },
		"a socket with TLS": func() (*http.Response, error) {
			return (&http.Client{Transport: overSocket}).Get("https://localhost/version")
		},
	} {
		if resp, err := get(); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %v, %v", name, resp, err)
		} else {
			resp.Body.Close()
		}
	}
	split.client = onlyHTTP
	if _, err := split.getHTTP(t, a.client(nil), true); err != nil {
		t.Errorf("HTTP at its own address: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// Both servers behind one address tell clients the limit of streams.
func TestStreamLimitIsTold(t *testing.T) {
	a := newAuthority(t, "ca")
	server := a.issue("server", "server", nil)
	m := startMember(t, func(c *Config) {
		c.ClientTLS.CertFile, c.ClientTLS.KeyFile = server.cert, server.key
		c.MaxConcurrentStreams = 7
	})
	for _, protos := range [][]string{{protoHTTP2}, {protoHTTP2, protoHTTP1}} {
		c := a.client(nil)
		c.NextProtos = protos
		conn, err := tls.Dial("tcp", m.client, c)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
			t.Fatal(err)
		}
		f := http2.NewFramer(conn, conn)
		if err := errors.Join(f.WriteSettings(), conn.SetDeadline(time.Now().Add(10*time.Second))); err != nil {
			t.Fatal(err)
		}
		frame, err := f.ReadFrame()
		settings, ok := frame.(*http2.SettingsFrame)
		if err != nil || !ok {
			t.Fatalf("%v, %v", frame, err)
		}
		if n, _ := settings.Value(http2.SettingMaxConcurrentStreams); n != 7 {
			t.Errorf("clients of %q are told %d streams", protos, n)
		}
	}
}

// Two members may have one port where they are told so.
func TestSocketOptions(t *testing.T) {
	for _, reuse := range []bool{true, false} {
		c := DefaultConfig()
		c.Socket.ReusePort, c.Socket.ReuseAddress = reuse, reuse
		u := mustURL(t, "http://"+freeAddress(t))
		var first, second listeners
		defer first.close()
		defer second.close()
		if _, err := openEndpoint(&c, &first.peer, u); err != nil {
			t.Fatal(err)
		}
		if _, err := openEndpoint(&c, &second.peer, u); (err == nil) != reuse {
			t.Errorf("reuse %v: %v", reuse, err)
		}
	}
}

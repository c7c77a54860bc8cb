package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/soheilhy/cmux"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/rpc"
)

// tokens are the simple tokens of this run.
func (n *Node) tokens() *auth.Tokens {
	return auth.NewTokens(time.Duration(n.c.AuthTokenTTLSeconds)*time.Second, time.Now)
}

func (n *Node) authOptions() (rpc.AuthOptions, error) {
	scheme, err := auth.ParseScheme(n.c.AuthToken)
	if err != nil {
		return rpc.AuthOptions{}, fmt.Errorf("--auth-token: %w", err)
	}
	return rpc.AuthOptions{
		Scheme: scheme, BcryptCost: int(min(n.c.BcryptCost, maxCost)), CertUsers: n.c.ClientTLS.ClientCertAuth,
	}, nil
}

// maxCost is beyond every cost that bcrypt knows.
const maxCost = 1000

// connCredentials tell gRPC about connections whose TLS has ended before, where
// one port was divided between gRPC and HTTP.
type connCredentials struct {
	credentials.TransportCredentials
}

func newConnCredentials() connCredentials { return connCredentials{insecure.NewCredentials()} }

// ServerHandshake does none: it finds the TLS connection, and with it the
// client's verified certificate.
func (c connCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	t := tlsConn(conn)
	if t == nil {
		return c.TransportCredentials.ServerHandshake(conn)
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil { // over already, as a rule
		return nil, nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return conn, credentials.TLSInfo{
		State:          t.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// tlsConn finds the TLS below a connection; nil when there is none.
func tlsConn(conn net.Conn) *tls.Conn {
	if m, ok := conn.(*cmux.MuxConn); ok {
		conn = m.Conn
	}
	t, _ := conn.(*tls.Conn)
	return t
}

// tlsKey is where noteTLS keeps a connection's *tls.Conn.
type tlsKey struct{}

// noteTLS and withTLS tell HTTP handlers about TLS in the same way: net/http
// sees it only where it ended it itself.
func noteTLS(ctx context.Context, conn net.Conn) context.Context {
	if t := tlsConn(conn); t != nil {
		return context.WithValue(ctx, tlsKey{}, t)
	}
	return ctx
}

func withTLS(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t, ok := r.Context().Value(tlsKey{}).(*tls.Conn); ok && r.TLS == nil {
			state := t.ConnectionState()
			r.TLS = &state
		}
		h.ServeHTTP(w, r)
	})
}

const handshakeTimeout = 10 * time.Second

// Clone copies the credentials.
func (c connCredentials) Clone() credentials.TransportCredentials {
	return connCredentials{c.TransportCredentials.Clone()}
}

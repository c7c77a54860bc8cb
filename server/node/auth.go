package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
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
	inner := conn
	if m, ok := conn.(*cmux.MuxConn); ok {
		inner = m.Conn
	}
	t, ok := inner.(*tls.Conn)
	if !ok {
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

// Clone copies the credentials.
func (c connCredentials) Clone() credentials.TransportCredentials {
	return connCredentials{c.TransportCredentials.Clone()}
}

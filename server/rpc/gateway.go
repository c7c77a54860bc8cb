package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/tmc/grpc-websocket-proxy/wsproxy"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	electiongw "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb/gw"
	lockgw "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb/gw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
)

// gatewayBufferBytes is what may be under way between gateway and services.
const gatewayBufferBytes = 1 << 20

// Gateway translates JSON over HTTP, POST /v3/..., into calls of the services,
// over a connection inside the process, so that they pass the same checks.
type Gateway struct {
	s    *Server
	http http.Handler
	lis  *bufconn.Listener
	conn *grpc.ClientConn
	done chan struct{} // closed when the listener is no longer served
}

// NewGateway makes the gateway to the services that Register registered with g.
// Close it before g is stopped.
func (s *Server) NewGateway(g *grpc.Server) (*Gateway, error) {
	lis := bufconn.Listen(gatewayBufferBytes)
	conn, err := grpc.NewClient("passthrough:///gateway",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		return nil, fmt.Errorf("connect the gateway: %w", err)
	}
	mux := newGatewayMux()
	w := &Gateway{s: s, http: overWebsockets(mux, s.o.Logger), lis: lis, conn: conn, done: make(chan struct{})}
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		gw.RegisterKVHandler, gw.RegisterWatchHandler, gw.RegisterLeaseHandler,
		gw.RegisterClusterHandler, gw.RegisterMaintenanceHandler, gw.RegisterAuthHandler,
		lockgw.RegisterLockHandler, electiongw.RegisterElectionHandler,
	} {
		if err := register(context.Background(), mux, conn); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("register the gateway: %w", err)
		}
	}
	go func() {
		defer close(w.done)
		_ = g.Serve(lis) // ends when the listener is closed
	}()
	return w, nil
}

// newGatewayMux writes JSON as etcd does: names as in the protocol, without
// what is empty, and bytes in base64; it accepts fields that it does not know.
func newGatewayMux() *runtime.ServeMux {
	return runtime.NewServeMux(runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{
		Marshaler: &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true},
			UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
		},
	}))
}

// overWebsockets lets a stream's messages come and go through a websocket, too,
// one JSON text each. They can be as large as the services allow.
func overWebsockets(h http.Handler, l *slog.Logger) http.Handler {
	return wsproxy.WebsocketProxy(h,
		wsproxy.WithRequestMutator(func(_, out *http.Request) *http.Request {
			out.Method = http.MethodPost // a websocket begins with a GET
			return out
		}),
		wsproxy.WithMaxRespBodyBufferSize(math.MaxInt32),
		wsproxy.WithLogger(websocketLog{l}))
}

type websocketLog struct{ l *slog.Logger }

func (w websocketLog) Warnln(v ...any) { w.l.Warn("websocket", "error", fmt.Sprint(v...)) }

// Debugln keeps quiet: these lines hold what clients send, tokens among it.
func (w websocketLog) Debugln(...any) {}

// ServeHTTP answers the paths below /v3/, and those below the older /v3beta/;
// all else is not found.
func (w *Gateway) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/v3beta/"); ok {
		r.URL.Path = "/v3/" + rest
	}
	if w.s.ignoresName(r.TLS) {
		http.Error(rw, "CommonName of client sending a request against gateway will be ignored and not used as expected", http.StatusBadRequest)
		return
	}
	w.http.ServeHTTP(rw, r)
}

// ignoresName tells whether a client may believe that it is known by the common
// name of its certificate, which the gateway does not pass on.
func (s *Server) ignoresName(t *tls.ConnectionState) bool {
	if t == nil || !s.o.Auth.CertUsers || !s.b.Machine().Auth().Enabled() {
		return false
	}
	for _, chain := range t.VerifiedChains {
		if len(chain) > 0 && chain[0].Subject.CommonName != "" {
			return true
		}
	}
	return false
}

// Close ends the calls that are under way.
func (w *Gateway) Close() error {
	err := w.conn.Close()
	_ = w.lis.Close()
	<-w.done
	return err
}

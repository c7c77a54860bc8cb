package rpc

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
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
	mux  *runtime.ServeMux
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
	w := &Gateway{mux: newGatewayMux(), lis: lis, conn: conn, done: make(chan struct{})}
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		gw.RegisterKVHandler, gw.RegisterWatchHandler, gw.RegisterLeaseHandler,
		gw.RegisterClusterHandler, gw.RegisterMaintenanceHandler, gw.RegisterAuthHandler,
	} {
		if err := register(context.Background(), w.mux, conn); err != nil {
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

// ServeHTTP answers the paths below /v3/; all else is not found.
func (w *Gateway) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.mux.ServeHTTP(rw, r) }

// Close ends the calls that are under way.
func (w *Gateway) Close() error {
	err := w.conn.Close()
	_ = w.lis.Close()
	<-w.done
	return err
}

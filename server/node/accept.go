package node

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	protoHTTP1 = "http/1.1"
	protoHTTP2 = "h2"

	handshakeTimeout = 10 * time.Second
	// maxAcceptPause is the longest rest after an accept that failed for want of
	// something that may come back, such as file descriptors.
	maxAcceptPause = time.Second
)

// tlsAcceptor takes TLS connections of one listener and hands them to gRPC or to
// HTTP. A client that knows HTTP/2 only is taken for one of gRPC, whose server
// then owns the connection; all others speak to the HTTP server, which also
// passes gRPC on. So neither has to read ahead in the other's stream.
type tlsAcceptor struct {
	l      net.Listener
	config *tls.Config
	log    *slog.Logger
	failed func(*tls.Conn, error)
	// check judges a connection after its handshake; nil for none.
	check     func(context.Context, *tls.Conn) error
	grpc      *connQueue // nil where only HTTP is served
	http      *connQueue // nil where only gRPC is served
	ctx       context.Context
	cancel    context.CancelFunc
	shakings  sync.WaitGroup
	closeOnce sync.Once
}

func newTLSAcceptor(l net.Listener, c *tls.Config, log *slog.Logger, failed func(*tls.Conn, error)) *tlsAcceptor {
	a := &tlsAcceptor{l: l, log: log, failed: failed, config: c.Clone()}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	current := c.GetConfigForClient
	a.config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if t, ok := hello.Conn.(*helloConn); ok {
			t.http = !slices.Contains(hello.SupportedProtos, protoHTTP2) || slices.Contains(hello.SupportedProtos, protoHTTP1)
		}
		if current == nil {
			return nil, nil // go on with the config as it is
		}
		return current(hello)
	}
	return a
}

// helloConn remembers what a client's hello said.
type helloConn struct {
	net.Conn
	// http: the client may speak HTTP/1. Written in the handshake only.
	http bool
}

// serve accepts until the listener is closed.
func (a *tlsAcceptor) serve() error {
	defer a.shakings.Wait()
	defer a.cancel()
	var pause time.Duration
	for {
		conn, err := a.l.Accept()
		var ne net.Error
		//nolint:staticcheck // SA1019: this is what tells an accept that may be tried again
		if errors.As(err, &ne) && ne.Temporary() {
			pause = min(max(2*pause, 5*time.Millisecond), maxAcceptPause)
			a.log.Warn("connection not accepted", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
				continue
			case <-a.ctx.Done():
				return net.ErrClosed
			}
		}
		if err != nil {
			return err
		}
		pause = 0
		a.shakings.Add(1)
		go func() {
			defer a.shakings.Done()
			a.shake(conn)
		}()
	}
}

func (a *tlsAcceptor) shake(conn net.Conn) {
	ctx, cancel := context.WithTimeout(a.ctx, handshakeTimeout)
	defer cancel()
	hello := &helloConn{Conn: conn}
	t := tls.Server(hello, a.config)
	err := t.HandshakeContext(ctx)
	if err == nil && a.check != nil {
		err = a.check(ctx, t)
	}
	if err != nil {
		if a.ctx.Err() == nil {
			a.failed(t, err)
		}
		_ = t.Close() // the reason is err
		return
	}
	to := a.http
	if to == nil || (a.grpc != nil && !hello.http) {
		to = a.grpc
	}
	to.put(t)
}

// close ends the listener and the handshakes under way.
func (a *tlsAcceptor) close() {
	a.closeOnce.Do(func() {
		a.cancel()
		_ = a.l.Close() // may be closed already
	})
}

// connQueue is a listener whose connections were accepted elsewhere.
type connQueue struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

func newConnQueue(addr net.Addr) *connQueue {
	return &connQueue{conns: make(chan net.Conn), closed: make(chan struct{}), addr: addr}
}

// put hands a connection over, or closes it when nobody accepts any more.
func (q *connQueue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.closed:
		_ = c.Close()
	}
}

func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

func (q *connQueue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

func (q *connQueue) Addr() net.Addr { return q.addr }

package lean

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What HTTP/2 says before a peer's settings say otherwise.
const (
	initialWindow    = 65_535
	initialMaxFrame  = 16_384
	initialTableSize = 4_096
	maxWindow        = 1<<31 - 1
)

const (
	readBufferBytes = 64 << 10
	// keptBufferBytes is how large a write buffer may be that is used again.
	keptBufferBytes = 1 << 20
	// maxHeaderBytes bounds one block of headers from the server.
	maxHeaderBytes = 1 << 20
	maxStreamID    = 1<<31 - 1
)

// Options are how to connect. The zero value is h2c with windows that do not
// hold a server up.
type Options struct {
	TLS *tls.Config // nil is without
	// StreamWindow and ConnWindow are how many bytes a server may send ahead.
	StreamWindow, ConnWindow int
}

// Conn is one connection. All methods may be called at the same time.
type Conn struct {
	nc   net.Conn
	opt  Options
	wake chan struct{} // has one element when out may have bytes
	stop chan struct{} // closed with err
	// greeted is closed when the server's settings are known.
	greeted chan struct{}
	end     sync.WaitGroup

	mu sync.Mutex
	// out are the frames that the writer has not taken yet. While holding, the
	// reader will wake the writer, and nobody else needs to.
	out     []byte
	holding bool
	// err is why the connection takes no more calls; set once.
	err     error
	headers headerCache
	nextID  uint32
	// live are the exchanges that have begun and not ended.
	live map[uint32]*exchange
	// queued wait for the server to allow another stream, parked for it to take
	// more bytes. Each exchange is in either at most once.
	queued, parked []*exchange
	window         int64 // what the server takes on the connection
	peer           peerSettings
}

// peerSettings are the server's.
type peerSettings struct {
	window     int64
	maxFrame   int
	maxStreams uint32
}

// Dial connects to host:port.
func Dial(ctx context.Context, addr string, opt Options) (*Conn, error) {
	if opt.StreamWindow == 0 {
		opt.StreamWindow = 1 << 20
	}
	if opt.ConnWindow == 0 {
		opt.ConnWindow = 16 << 20
	}
	nc, err := dial(ctx, addr, opt.TLS)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		nc: nc, opt: opt,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), greeted: make(chan struct{}),
		live: map[uint32]*exchange{}, nextID: 1, window: initialWindow,
		peer: peerSettings{window: initialWindow, maxFrame: initialMaxFrame, maxStreams: maxStreamID},
	}
	c.headers.init(addr, opt.TLS != nil)
	c.greet()
	r := &reader{c: c, buffered: bufio.NewReaderSize(nc, readBufferBytes)}
	r.frames = http2.NewFramer(nil, r.buffered)
	r.frames.SetReuseFrames()
	r.fields = hpack.NewDecoder(initialTableSize, r.field)
	c.end.Go(c.write)
	c.end.Go(r.run)
	c.signal()
	select {
	case <-c.greeted: // calls before it might be more than the server takes
		return c, nil
	case <-c.stop:
		err = c.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = c.Close()
	return nil, fmt.Errorf("connect to %s: %w", addr, err)
}

func dial(ctx context.Context, addr string, config *tls.Config) (net.Conn, error) {
	if config == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	config = config.Clone()
	config.NextProtos = []string{http2.NextProtoTLS}
	nc, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if p := nc.(*tls.Conn).ConnectionState().NegotiatedProtocol; p != http2.NextProtoTLS {
		_ = nc.Close()
		return nil, fmt.Errorf("connect to %s: the server speaks %q and not HTTP/2", addr, p)
	}
	return nc, nil
}

// greet puts the preface and the first frames into out.
func (c *Conn) greet() {
	c.out = append(c.out, http2.ClientPreface...)
	c.frame(func(fr *http2.Framer) error {
		return fr.WriteSettings(
			http2.Setting{ID: http2.SettingEnablePush, Val: 0},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(c.opt.StreamWindow)})
	})
	if more := c.opt.ConnWindow - initialWindow; more > 0 {
		c.frame(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(0, uint32(more)) })
	}
}

// frame appends a frame that is not on the hot path. The caller holds mu.
func (c *Conn) frame(write func(*http2.Framer) error) {
	b := bytes.NewBuffer(c.out)
	if err := write(http2.NewFramer(b, nil)); err != nil {
		panic(err) // the frame itself is wrong
	}
	c.out = b.Bytes()
}

// Close ends all calls with an error and waits for the goroutines.
func (c *Conn) Close() error {
	c.fail(status.Error(codes.Canceled, "the connection was closed"))
	c.end.Wait()
	return nil
}

// fail ends the connection and whatever is under way on it.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.isStopped() {
		c.mu.Unlock()
		return
	}
	if c.err == nil {
		c.err = err
	}
	close(c.stop)
	ended := c.queued
	for _, x := range c.live {
		ended = append(ended, x)
	}
	c.queued, c.parked, c.live = nil, nil, map[uint32]*exchange{}
	c.mu.Unlock()
	_ = c.nc.Close()
	for _, x := range ended {
		x.owner.finish(err)
	}
}

func (c *Conn) isStopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// signal wakes the writer.
func (c *Conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write is the goroutine that sends.
func (c *Conn) write() {
	var spare []byte
	for {
		select {
		case <-c.wake:
		case <-c.stop:
			return
		}
		c.mu.Lock()
		b := c.out
		c.out = spare[:0]
		c.mu.Unlock()
		if _, err := c.nc.Write(b); err != nil {
			c.fail(broken("write", err))
			return
		}
		if spare = b; cap(b) > keptBufferBytes {
			spare = nil
		}
	}
}

// broken is the error of all calls on a connection that failed.
func broken(what string, err error) error {
	if s := new(net.OpError); errors.As(err, &s) {
		err = s.Err // addresses would make every error another
	}
	return status.Errorf(codes.Unavailable, "%s: %v", what, err)
}

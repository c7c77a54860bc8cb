package lean

import (
	"encoding/binary"
	"math"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	frameHeader = 9
	// messagePrefix is a byte that says whether the message is compressed, and
	// four of its length.
	messagePrefix = 5
	// maxExchangeBytes is what a reply may hold.
	maxExchangeBytes = math.MaxInt32
)

// owner is a call or a stream, as its exchange knows it. Both are called on the
// reader's goroutine.
type owner interface {
	// deliver takes bytes of the response's body; the caller holds Conn.mu.
	deliver(b []byte)
	// finish is told the outcome, once; the caller holds no lock.
	finish(err error)
}

// exchange is one HTTP/2 stream: a request and what comes back. Its fields
// belong to Conn.mu, but for the first two, which never change while it lives.
type exchange struct {
	method string
	owner  owner

	id       uint32 // 0 until it has begun
	window   int64  // what the server takes on this stream
	unsent   []byte // body that waits for windows; parked when there is any
	bodyEnds bool   // nothing follows unsent
	sentEnd  bool
	uncredit int // received bytes that the server has no credit for again
	answer   answer
}

var errNoMoreIDs = status.Error(codes.Unavailable, "the connection has used all its stream IDs")

// answer is what headers and trailers said.
type answer struct {
	http    string // :status
	code    string // grpc-status
	message string // grpc-message
}

// begin opens the exchange with its first message and whether that is the only
// one. An error means that nothing was sent and finish will not be called.
func (c *Conn) begin(x *exchange, m proto.Message, only bool) error {
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return err
	}
	x.bodyEnds = only
	if len(c.queued) > 0 || uint32(len(c.live)) >= c.peer.maxStreams {
		body, err := appendMessage(x.unsent[:0], m)
		if x.unsent = body; err == nil {
			c.queued = append(c.queued, x)
		}
		c.mu.Unlock()
		return err
	}
	if err := c.open(x); err != nil {
		c.mu.Unlock()
		return err
	}
	err := c.sendMessage(x, m)
	if err != nil {
		c.abort(x)
	}
	c.unlockAndSignal()
	return err
}

// unlockAndSignal gives up mu and lets the writer have what is in out.
func (c *Conn) unlockAndSignal() {
	wake := !c.holding && len(c.out) > 0
	c.mu.Unlock()
	if wake {
		c.signal()
	}
}

// open sends the headers. The caller holds mu.
func (c *Conn) open(x *exchange) error {
	if c.nextID > maxStreamID {
		return errNoMoreIDs
	}
	x.id, x.window, x.sentEnd, x.uncredit, x.answer = c.nextID, c.peer.window, false, 0, answer{}
	c.nextID += 2
	c.live[x.id] = x
	block := c.headers.block(x.method)
	c.out = appendFrame(c.out, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders, x.id)
	c.out = append(c.out, block...)
	return nil
}

// sendMessage sends m on an open exchange, or parks what the windows do not
// take. The caller holds mu.
func (c *Conn) sendMessage(x *exchange, m proto.Message) error {
	start := len(c.out)
	if len(x.unsent) > 0 {
		body, err := appendMessage(x.unsent, m)
		x.unsent = body
		return err
	}
	c.out = appendFrame(c.out, 0, http2.FrameData, 0, x.id)
	out, err := appendMessage(c.out, m)
	if err != nil {
		c.out = out[:start]
		return err
	}
	c.out = out
	n := len(out) - start - frameHeader
	if n <= c.peer.maxFrame && int64(n) <= min(c.window, x.window) {
		putLength(out[start:], n)
		if x.bodyEnds {
			out[start+4] = byte(http2.FlagDataEndStream)
			x.sentEnd = true
		}
		c.window -= int64(n)
		x.window -= int64(n)
		return nil
	}
	x.unsent = append(x.unsent[:0], out[start+frameHeader:]...)
	c.out = out[:start]
	if c.pump(x) {
		c.parked = append(c.parked, x)
	}
	return nil
}

// pump sends of the unsent body what the windows take, and reports whether some
// is left. The caller holds mu.
func (c *Conn) pump(x *exchange) bool {
	for !x.sentEnd {
		n := int(min(int64(len(x.unsent)), int64(c.peer.maxFrame), max(0, min(c.window, x.window))))
		last := n == len(x.unsent)
		if n == 0 && !last {
			return true
		}
		if last && n == 0 && !x.bodyEnds {
			return false
		}
		var flags http2.Flags
		if last && x.bodyEnds {
			flags, x.sentEnd = http2.FlagDataEndStream, true
		}
		c.out = append(appendFrame(c.out, n, http2.FrameData, flags, x.id), x.unsent[:n]...)
		x.unsent = x.unsent[n:]
		c.window -= int64(n)
		x.window -= int64(n)
	}
	return false
}

// pumpAll sends what grown windows or a freed stream allow, and returns what can
// never begin, with mu to be given up before they are told. The caller holds mu.
func (c *Conn) pumpAll() (refused []*exchange) {
	still := c.parked[:0]
	for _, x := range c.parked {
		if c.pump(x) {
			still = append(still, x)
		}
	}
	clear(c.parked[len(still):])
	c.parked = still
	for len(c.queued) > 0 && uint32(len(c.live)) < c.peer.maxStreams {
		x := c.queued[0]
		c.queued = c.queued[1:]
		if c.open(x) != nil {
			refused = append(refused, x)
		} else if c.pump(x) {
			c.parked = append(c.parked, x)
		}
	}
	return refused
}

// abort tells the server that the exchange is over, whatever it thinks of it.
// The caller holds mu.
func (c *Conn) abort(x *exchange) {
	c.forget(x)
	c.frame(func(fr *http2.Framer) error { return fr.WriteRSTStream(x.id, http2.ErrCodeCancel) })
}

// forget takes the exchange off all lists. The caller holds mu.
func (c *Conn) forget(x *exchange) {
	delete(c.live, x.id)
	if len(x.unsent) > 0 {
		c.parked = without(c.parked, x)
		c.queued = without(c.queued, x)
		x.unsent = x.unsent[:0]
	}
}

func without(list []*exchange, x *exchange) []*exchange {
	for i, e := range list {
		if e == x {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}

// appendFrame appends the header of a frame of n bytes.
func appendFrame(b []byte, n int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	return binary.BigEndian.AppendUint32(b, id)
}

func putLength(frame []byte, n int) { frame[0], frame[1], frame[2] = byte(n>>16), byte(n>>8), byte(n) }

// appendMessage appends m as gRPC frames it.
func appendMessage(b []byte, m proto.Message) ([]byte, error) {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0)
	out, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return b[:start], status.Errorf(codes.Internal, "encode the request: %v", err)
	}
	binary.BigEndian.PutUint32(out[start+1:], uint32(len(out)-start-messagePrefix))
	return out, nil
}

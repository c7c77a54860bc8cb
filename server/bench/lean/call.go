package lean

import (
	"context"
	"encoding/binary"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Call is a unary call. When it is over it may be started again.
type Call struct {
	Method         string // "/package.Service/Method"
	Request, Reply proto.Message
	// Done runs once, on the goroutine that reads the connection: it may start
	// calls and must not block.
	Done func(error)

	c        *Conn
	exchange exchange
	body     []byte
}

// Start sends the call. With an error nothing was started, and Done will not
// run.
func (c *Conn) Start(call *Call) error {
	call.c, call.body = c, call.body[:0]
	call.exchange.method, call.exchange.owner = call.Method, call
	return c.begin(&call.exchange, call.Request, true)
}

func (call *Call) deliver(b []byte) {
	x := &call.exchange
	if len(call.body)+len(b) <= maxExchangeBytes { // else it will not decode
		call.body = append(call.body, b...)
	}
	if x.uncredit += len(b); x.uncredit >= call.c.opt.StreamWindow/2 {
		call.c.credit(x.id, &x.uncredit)
	}
}

func (call *Call) finish(err error) {
	if err == nil {
		err = call.decode()
	}
	if cap(call.body) > keptBufferBytes {
		call.body = nil
	}
	call.Done(err)
}

func (call *Call) decode() error {
	n, err := messageLength(call.body)
	if err != nil {
		return err
	}
	if n < 0 || n != len(call.body)-messagePrefix {
		return status.Errorf(codes.Internal, "the response's %d bytes are not one message", len(call.body))
	}
	return decode(call.body[messagePrefix:], call.Reply)
}

func decode(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return status.Errorf(codes.Internal, "decode the reply: %v", err)
	}
	return nil
}

// messageLength reads a message's prefix; -1 is that it is not whole.
func messageLength(b []byte) (int, error) {
	if len(b) < messagePrefix {
		return -1, nil
	}
	if b[0] != 0 {
		return 0, status.Error(codes.Internal, "the reply is compressed")
	}
	n := binary.BigEndian.Uint32(b[1:])
	if n > maxExchangeBytes-messagePrefix {
		return 0, status.Errorf(codes.ResourceExhausted, "a message of %d bytes", n)
	}
	return int(n), nil
}

// Invoke makes one call and waits for its end, or for that of ctx.
func (c *Conn) Invoke(ctx context.Context, method string, request, reply proto.Message) error {
	done := make(chan error, 1)
	call := &Call{Method: method, Request: request, Reply: reply, Done: func(err error) { done <- err }}
	if err := c.Start(call); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		c.mu.Lock()
		live := c.live[call.exchange.id] == &call.exchange
		if live {
			c.abort(&call.exchange)
		} else {
			c.queued = without(c.queued, &call.exchange)
		}
		c.unlockAndSignal()
		return status.FromContextError(ctx.Err()).Err()
	}
}

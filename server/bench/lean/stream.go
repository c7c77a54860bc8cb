package lean

import (
	"context"
	"errors"
	"io"
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Stream is a call with any number of messages either way. Send may be called
// beside Receive, but neither by two at once. A stream of which nobody receives
// holds the server up when its window is full, and no other stream.
type Stream struct {
	c        *Conn
	exchange exchange
	begun    bool // the first message was sent; Send's

	more chan struct{} // has one element when something below is new
	// Of Conn.mu:
	in       []byte
	from     int // bytes of in that Receive has taken
	credited int // for bytes of in up to here, the server has credit again
	ended    bool
	err      error // io.EOF when it ended well
}

// NewStream begins a stream with its first Send.
func (c *Conn) NewStream(method string) *Stream {
	s := &Stream{c: c, more: make(chan struct{}, 1)}
	s.exchange.method, s.exchange.owner = method, s
	return s
}

// Send sends a message, or keeps it until the server takes it.
func (s *Stream) Send(m proto.Message) error {
	if !s.begun {
		s.begun = true
		return s.c.begin(&s.exchange, m, false)
	}
	s.c.mu.Lock()
	defer s.c.unlockAndSignal()
	if s.ended {
		return s.err
	}
	return s.c.sendMessage(&s.exchange, m)
}

// CloseSend says that no message follows.
func (s *Stream) CloseSend() {
	s.c.mu.Lock()
	defer s.c.unlockAndSignal()
	x := &s.exchange
	if x.bodyEnds = true; s.c.live[x.id] == x && len(x.unsent) == 0 {
		s.c.pump(x)
	}
}

// Close ends the stream on both sides. Receive then returns an error.
func (s *Stream) Close() {
	s.c.mu.Lock()
	x := &s.exchange
	if s.c.live[x.id] == x {
		s.c.abort(x)
	} else {
		s.c.queued = without(s.c.queued, x)
	}
	s.c.unlockAndSignal()
	s.finish(status.Error(codes.Canceled, "the stream was closed"))
}

// Receive waits for a message, for the end of the stream, which is io.EOF when
// it ended well, or for that of ctx.
func (s *Stream) Receive(ctx context.Context, m proto.Message) error {
	for {
		ok, err := s.take(m)
		if ok || err != nil {
			return err
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// take decodes the first message, if it is whole.
func (s *Stream) take(m proto.Message) (bool, error) {
	s.c.mu.Lock()
	defer s.c.unlockAndSignal()
	rest := s.in[s.from:]
	n, err := messageLength(rest)
	if err != nil {
		return false, err
	}
	if n >= 0 && len(rest) >= messagePrefix+n {
		s.from += messagePrefix + n
		s.grant(s.from)
		err = decode(rest[messagePrefix:messagePrefix+n], m)
		if s.from == len(s.in) {
			s.in, s.from, s.credited = s.in[:0], 0, 0
		}
		return true, err
	}
	s.grant(len(s.in)) // else a message beyond the window never gets whole
	switch {
	case !s.ended:
		return false, nil
	case len(rest) > 0 && errors.Is(s.err, io.EOF):
		return false, status.Error(codes.Internal, "the stream ended within a message")
	default:
		return false, s.err
	}
}

// grant gives the server credit for in up to n. The caller holds mu.
func (s *Stream) grant(n int) {
	x := &s.exchange
	if n > s.credited {
		x.uncredit += n - s.credited
		s.credited = n
	}
	if x.uncredit >= s.c.opt.StreamWindow/2 && s.c.live[x.id] == x {
		s.c.credit(x.id, &x.uncredit)
	}
}

func (s *Stream) deliver(b []byte) {
	if len(s.in)+len(b) > math.MaxInt32 {
		return // beyond any window that was granted
	}
	if s.from > len(s.in)/2 { // moving costs no more than what was received
		s.in = append(s.in[:0], s.in[s.from:]...)
		s.credited -= s.from
		s.from = 0
	}
	s.in = append(s.in, b...)
	s.tell()
}

func (s *Stream) finish(err error) {
	if err == nil {
		err = io.EOF
	}
	s.c.mu.Lock()
	if !s.ended {
		s.ended, s.err = true, err
	}
	s.c.mu.Unlock()
	s.tell()
}

func (s *Stream) tell() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

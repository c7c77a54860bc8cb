package lean

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/url"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reader is the goroutine that reads; what it holds is its own.
type reader struct {
	c        *Conn
	buffered *bufio.Reader
	frames   *http2.Framer
	fields   *hpack.Decoder
	// answer takes the fields of the block that is being decoded.
	answer      answer
	headerBytes int
	blockEnds   bool // the block is that of trailers
	uncredit    int  // received bytes that the connection has no credit for again
	settled     bool // the first settings came
	// ended are those that the frame ended; they are told without mu.
	ended []ended
}

// ended is an exchange with its outcome.
type ended struct {
	x   *exchange
	err error
}

func (r *reader) run() {
	for {
		r.release()
		f, err := r.frames.ReadFrame()
		if err != nil {
			r.c.fail(broken("read", err))
			return
		}
		r.c.mu.Lock()
		r.c.holding = true
		err = r.handle(f)
		r.c.mu.Unlock()
		for _, e := range r.ended {
			e.x.owner.finish(e.err)
		}
		clear(r.ended)
		r.ended = r.ended[:0]
		if err != nil {
			r.c.fail(status.Errorf(codes.Internal, "protocol: %v", err))
			return
		}
	}
}

// release wakes the writer before a read that may block.
func (r *reader) release() {
	if n := r.buffered.Buffered(); n >= frameHeader {
		b, _ := r.buffered.Peek(3)
		if n >= frameHeader+(int(b[0])<<16|int(b[1])<<8|int(b[2])) {
			return
		}
	}
	r.c.mu.Lock()
	r.c.holding = false
	empty := len(r.c.out) == 0
	r.c.mu.Unlock()
	if !empty {
		r.c.signal()
	}
}

// handle takes one frame. The caller holds mu, here and below.
func (r *reader) handle(f http2.Frame) error {
	c := r.c
	switch f := f.(type) {
	case *http2.DataFrame:
		return r.data(f)
	case *http2.HeadersFrame:
		r.answer, r.headerBytes, r.blockEnds = answer{}, 0, f.StreamEnded()
		return r.block(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.ContinuationFrame:
		return r.block(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.SettingsFrame:
		return r.settings(f)
	case *http2.WindowUpdateFrame:
		return r.windowUpdate(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			c.frame(func(fr *http2.Framer) error { return fr.WritePing(true, f.Data) })
		}
	case *http2.RSTStreamFrame:
		if x := c.live[f.StreamID]; x != nil {
			c.forget(x)
			r.end(x, status.Errorf(codes.Unavailable, "the server reset the stream: %s", f.ErrCode))
		}
	case *http2.GoAwayFrame:
		r.goAway(f)
	case *http2.PushPromiseFrame:
		return fmt.Errorf("a push that was switched off")
	}
	return nil
}

// end notes the outcome and lets others have the place.
func (r *reader) end(x *exchange, err error) {
	r.ended = append(r.ended, ended{x, err})
	r.pump()
}

func (r *reader) pump() {
	if len(r.c.queued) == 0 && len(r.c.parked) == 0 {
		return
	}
	for _, x := range r.c.pumpAll() {
		r.ended = append(r.ended, ended{x, errNoMoreIDs})
	}
}

func (r *reader) data(f *http2.DataFrame) error {
	c, n := r.c, int(f.Length)
	if r.uncredit += n; r.uncredit >= c.opt.ConnWindow/2 {
		c.credit(0, &r.uncredit)
	}
	x := c.live[f.StreamID]
	if x == nil {
		return nil
	}
	x.owner.deliver(f.Data())
	x.uncredit += n - len(f.Data()) // padding
	if f.StreamEnded() {
		r.over(x)
	}
	return nil
}

// credit lets the server send as many bytes again as n says. The caller holds
// mu.
func (c *Conn) credit(id uint32, n *int) {
	c.out = appendFrame(c.out, 4, http2.FrameWindowUpdate, 0, id)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(*n))
	*n = 0
}

func (r *reader) block(id uint32, fragment []byte, last bool) error {
	if r.headerBytes += len(fragment); r.headerBytes > maxHeaderBytes {
		return fmt.Errorf("more than %d bytes of headers", maxHeaderBytes)
	}
	if _, err := r.fields.Write(fragment); err != nil {
		return err
	}
	if !last {
		return nil
	}
	if err := r.fields.Close(); err != nil {
		return err
	}
	x := r.c.live[id]
	if x == nil {
		return nil
	}
	if r.answer.http != "" {
		x.answer.http = r.answer.http
	}
	if r.answer.code != "" {
		x.answer.code, x.answer.message = r.answer.code, r.answer.message
	}
	if r.blockEnds {
		r.over(x)
	}
	return nil
}

// field takes one header.
func (r *reader) field(f hpack.HeaderField) {
	switch f.Name {
	case ":status":
		r.answer.http = f.Value
	case "grpc-status":
		r.answer.code = f.Value
	case "grpc-message":
		r.answer.message = f.Value
	}
}

// over ends an exchange whose response has ended.
func (r *reader) over(x *exchange) {
	if x.sentEnd {
		r.c.forget(x)
	} else {
		r.c.abort(x)
	}
	r.end(x, x.answer.err())
}

// err is the outcome as gRPC has it.
func (a *answer) err() error {
	switch {
	case a.code == "0":
		return nil
	case a.code == "" && a.http != "200":
		return status.Errorf(codes.Unavailable, "HTTP status %q", a.http)
	case a.code == "":
		return status.Error(codes.Internal, "the response has no status")
	}
	code, err := strconv.ParseUint(a.code, 10, 32)
	if err != nil {
		return status.Errorf(codes.Internal, "grpc-status is %q", a.code)
	}
	message, err := url.PathUnescape(a.message)
	if err != nil {
		message = a.message
	}
	return status.Error(codes.Code(code), message)
}

func (r *reader) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c := r.c
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			for _, x := range c.live {
				x.window += int64(s.Val) - c.peer.window
			}
			c.peer.window = int64(s.Val)
		case http2.SettingMaxFrameSize:
			c.peer.maxFrame = int(s.Val)
		case http2.SettingMaxConcurrentStreams:
			c.peer.maxStreams = s.Val
		case http2.SettingHeaderTableSize:
			c.headers.resize(s.Val)
		}
		return nil
	})
	c.frame(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
	r.pump()
	if !r.settled {
		r.settled = true
		close(c.greeted)
	}
	return err
}

func (r *reader) windowUpdate(f *http2.WindowUpdateFrame) error {
	c := r.c
	window := &c.window
	if f.StreamID != 0 {
		x := c.live[f.StreamID]
		if x == nil {
			return nil
		}
		window = &x.window
	}
	if *window += int64(f.Increment); *window > maxWindow {
		return fmt.Errorf("a window of %d bytes", *window)
	}
	r.pump()
	return nil
}

// goAway lets what the server still answers go on, and ends the rest.
func (r *reader) goAway(f *http2.GoAwayFrame) {
	c := r.c
	gone := status.Errorf(codes.Unavailable, "the server goes away: %s %s", f.ErrCode, f.DebugData())
	if c.err == nil {
		c.err = gone
	}
	for _, x := range c.queued {
		r.ended = append(r.ended, ended{x, gone})
	}
	c.queued = nil
	for id, x := range c.live {
		if id > f.LastStreamID {
			c.forget(x)
			r.ended = append(r.ended, ended{x, gone})
		}
	}
}

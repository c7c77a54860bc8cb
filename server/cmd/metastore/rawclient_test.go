package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// rawClient speaks HTTP/2 by hand: it reads only what it is told to, as no
// library's client does. It is one connection.
type rawClient struct {
	conn   net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	hpack  *hpack.Encoder
	next   uint32
}

// dialRaw connects, and returns when the server has answered.
func dialRaw(t testing.TB, address string) *rawClient {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &rawClient{conn: conn, framer: http2.NewFramer(conn, conn), next: 1}
	c.hpack = hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := c.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for { // the server's settings, and that it has ours
		f, err := c.framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && s.IsAck() {
			return c
		}
	}
}

// call begins a call and sends its request; it reads nothing.
func (c *rawClient) call(t testing.TB, method string, req proto.Message, end bool) (stream uint32) {
	t.Helper()
	c.block.Reset()
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "overload"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := c.hpack.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	stream = c.next
	c.next += 2
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block.Bytes(), EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	c.send(t, stream, req, end)
	return stream
}

// send sends a message on a stream.
func (c *rawClient) send(t testing.TB, stream uint32, m proto.Message, end bool) {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	message := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))
	if err := c.framer.WriteData(stream, end, append(message, body...)); err != nil {
		t.Fatal(err)
	}
}

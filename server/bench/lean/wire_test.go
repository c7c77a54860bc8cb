package lean

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"net/http/httptest"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func TestTLS(t *testing.T) {
	lender := httptest.NewTLSServer(nil) // of a certificate for 127.0.0.1
	defer lender.Close()
	_, _, addr := serve(t, grpc.Creds(credentials.NewServerTLSFromCert(&lender.TLS.Certificates[0])))
	roots := x509.NewCertPool()
	roots.AddCert(lender.Certificate())
	c, ctx := connect(t, addr, Options{TLS: &tls.Config{RootCAs: roots}})
	var reply pb.PutResponse
	if err := c.Invoke(ctx, pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte("k")}, &reply); err != nil || string(reply.PrevKv.Key) != "k" {
		t.Errorf("got %v, %v", &reply, err)
	}
	if _, err := Dial(ctx, addr, Options{TLS: &tls.Config{}}); err == nil {
		t.Error("a certificate of nobody was taken")
	}
}

// oneAnswer is a server of frames: it greets, waits for a request and lets
// answer say what comes back on its stream.
func oneAnswer(t *testing.T, answer func(fr *http2.Framer, stream uint32) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			nc, err := l.Accept()
			if err != nil {
				return err
			}
			defer nc.Close()
			if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
				return err
			}
			fr := http2.NewFramer(nc, nc)
			if err := fr.WriteSettings(); err != nil {
				return err
			}
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					return err
				}
				if h, ok := f.(*http2.HeadersFrame); ok {
					err := answer(fr, h.StreamID)
					_, _ = io.Copy(io.Discard, nc) // until the client goes, else it may lose the answer
					return err
				}
			}
		}()
	}()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	return l.Addr().String()
}

// awaitPing reads until the ping was answered.
func awaitPing(fr *http2.Framer) error {
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return err
		}
		if p, ok := f.(*http2.PingFrame); ok && p.IsAck() && p.Data == [8]byte{7} {
			return nil
		}
	}
}

// What grpc-go does not send: padding, headers in parts, a message cut anywhere.
func TestFramesOfAnotherServer(t *testing.T) {
	addr := oneAnswer(t, func(fr *http2.Framer, stream uint32) error {
		body, err := proto.Marshal(&pb.PutResponse{Header: &pb.ResponseHeader{Revision: 5}})
		if err != nil {
			return err
		}
		message := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		_ = e.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		_ = e.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
		head := bytes.Clone(block.Bytes())
		block.Reset()
		_ = e.WriteField(hpack.HeaderField{Name: "grpc-status", Value: "0"})
		tail := block.Bytes()
		for _, step := range []func() error{
			func() error { return fr.WritePing(false, [8]byte{7}) },
			func() error { return awaitPing(fr) },
			func() error {
				return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head[:1]})
			},
			func() error { return fr.WriteContinuation(stream, true, head[1:]) },
			func() error { return fr.WriteDataPadded(stream, false, message[:3], make([]byte, 20)) },
			func() error { return fr.WriteData(stream, false, message[3:]) },
			func() error {
				return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: tail, EndStream: true, EndHeaders: true})
			},
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	c, ctx := connect(t, addr, Options{})
	var reply pb.PutResponse
	if err := c.Invoke(ctx, pb.KV_Put_FullMethodName, &pb.PutRequest{}, &reply); err != nil || reply.Header.Revision != 5 {
		t.Errorf("got %v, %v", &reply, err)
	}
}

// Answers that are no answers end the call with an error, and not the program.
func TestBrokenAnswers(t *testing.T) {
	trailers := func(fr *http2.Framer, stream uint32, fields ...hpack.HeaderField) error {
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		for _, f := range fields {
			_ = e.WriteField(f)
		}
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	}
	ok := hpack.HeaderField{Name: ":status", Value: "200"}
	for name, c := range map[string]struct {
		answer func(fr *http2.Framer, stream uint32) error
		want   codes.Code
	}{
		"reset": {func(fr *http2.Framer, s uint32) error { return fr.WriteRSTStream(s, http2.ErrCodeRefusedStream) }, codes.Unavailable},
		"gone":  {func(fr *http2.Framer, s uint32) error { return fr.WriteGoAway(0, http2.ErrCodeNo, nil) }, codes.Unavailable},
		"HTTP error": {func(fr *http2.Framer, s uint32) error {
			return trailers(fr, s, hpack.HeaderField{Name: ":status", Value: "503"})
		}, codes.Unavailable},
		"no status": {func(fr *http2.Framer, s uint32) error { return trailers(fr, s, ok) }, codes.Internal},
		"no message": {func(fr *http2.Framer, s uint32) error {
			return trailers(fr, s, ok, hpack.HeaderField{Name: "grpc-status", Value: "0"})
		}, codes.Internal},
		"bad headers": {func(fr *http2.Framer, s uint32) error {
			return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}, codes.Internal},
		"window": {func(fr *http2.Framer, s uint32) error { return fr.WriteWindowUpdate(0, 1<<31-1) }, codes.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			conn, ctx := connect(t, oneAnswer(t, c.answer), Options{})
			err := conn.Invoke(ctx, pb.KV_Put_FullMethodName, &pb.PutRequest{}, &pb.PutResponse{})
			if status.Code(err) != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

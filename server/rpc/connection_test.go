package rpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"metastore.io/metastore/server/watch"
)

// pingUntilAway pings without a pause and without a call, and returns why the
// server ends the connection.
func pingUntilAway(t *testing.T, addr string) (code http2.ErrCode, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	const pings = 8
	for i := range pings {
		if err := f.WritePing(false, [8]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("no GOAWAY after %d pings: %v", pings, err)
		}
		if away, ok := frame.(*http2.GoAwayFrame); ok && away.ErrCode != http2.ErrCodeNo {
			return away.ErrCode, string(away.DebugData())
		}
	}
}

// Who pings too often is sent away, as etcd does it.
func TestTooManyPings(t *testing.T) {
	etcd := startEtcd(t).Target()
	mine := serve(t, Options{}, watch.Options{}).addr
	code, text := pingUntilAway(t, etcd)
	if code != http2.ErrCodeEnhanceYourCalm || text != "too_many_pings" {
		t.Fatalf("etcd says %v, %q", code, text)
	}
	if gotCode, gotText := pingUntilAway(t, mine); gotCode != code || gotText != text {
		t.Errorf("got %v, %q; etcd says %v, %q", gotCode, gotText, code, text)
	}
}

// holdStream opens a stream with one watcher that is created.
func holdStream(ctx context.Context, c pb.WatchClient) error {
	w, err := c.Watch(ctx)
	if err != nil {
		return err
	}
	create := &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}
	if err := w.Send(&pb.WatchRequest{RequestUnion: create}); err != nil {
		return err
	}
	r, err := w.Recv()
	if err == nil && !r.Created {
		return errors.New("not created")
	}
	return err
}

// A thousand streams on one connection leave it usable.
func TestThousandStreams(t *testing.T) {
	s := serve(t, Options{}, watch.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c := pb.NewWatchClient(s.conn)
	errs := make(chan error, 1000)
	var opening sync.WaitGroup
	for range cap(errs) {
		opening.Go(func() { errs <- holdStream(ctx, c) })
	}
	opening.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := s.hub.Stats().Streams; n != 1000 {
		t.Errorf("%d streams", n)
	}
	if _, err := pb.NewKVClient(s.conn).Put(ctx, &pb.PutRequest{Key: []byte("k")}); err != nil {
		t.Error(err)
	}
}

// Streams beyond the limit wait until one ends.
func TestStreamLimit(t *testing.T) {
	s := serve(t, Options{MaxConcurrentStreams: 3}, watch.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c, kv := pb.NewWatchClient(s.conn), pb.NewKVClient(s.conn)
	first, endFirst := context.WithCancel(ctx)
	defer endFirst()
	for _, ctx := range []context.Context{first, ctx, ctx} {
		if err := holdStream(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	short, cancelShort := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancelShort()
	if _, err := kv.Range(short, &pb.RangeRequest{Key: []byte("k")}); status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("a fourth call: %v", err)
	}
	endFirst()
	if _, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil {
		t.Errorf("with one stream less: %v", err)
	}
}

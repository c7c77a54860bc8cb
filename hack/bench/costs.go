package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// costsOf is how many of each kind are opened to see what one costs.
const costsOf = 1000

// restTime is how long a server is left alone before its memory is read, so that
// what serves the opening only has ended.
const restTime = time.Second

// costs tells what a member holds for a connection, a stream and a watcher that
// are idle: memory of the heap and the stacks, and goroutines.
func costs(ctx context.Context, members []*member) ([]figure, error) {
	m := members[0]
	var figures []figure
	for _, kind := range []struct {
		name string
		open func(context.Context, *member) (end func() error, err error)
	}{{"connection", openConnections}, {"stream", openStreams}, {"watcher", openWatchers}} {
		before, err := m.holds(ctx)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(ctx)
		end, err := kind.open(ctx, m)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("open a %s: %w", kind.name, err)
		}
		after, err := m.holds(ctx)
		cancel()
		if err := errors.Join(err, end()); err != nil {
			return nil, err
		}
		figures = append(figures,
			figure{"a " + kind.name + " holds", (after.bytes - before.bytes) / costsOf, "B"},
			figure{"a " + kind.name + " has", (after.goroutines - before.goroutines) / costsOf, "goroutines"})
	}
	return figures, nil
}

// holdings are what a process has at a moment.
type holdings struct{ bytes, goroutines float64 }

// holds has the member collect its garbage and tells what is left.
func (m *member) holds(ctx context.Context) (h holdings, err error) {
	time.Sleep(restTime)
	if err := m.get(ctx, "/debug/pprof/heap?gc=1", func(string) {}); err != nil {
		return h, err
	}
	found := 0
	err = m.get(ctx, "/metrics", func(line string) {
		for name, sum := range map[string]*float64{
			"go_memstats_heap_alloc_bytes ": &h.bytes, "go_memstats_stack_inuse_bytes ": &h.bytes, "go_goroutines ": &h.goroutines,
		} {
			var value float64
			if text, ok := strings.CutPrefix(line, name); ok {
				n, _ := fmt.Sscan(text, &value)
				found += n
				*sum += value
			}
		}
	})
	if err == nil && found != 3 {
		err = errors.New("metrics of Go are missing")
	}
	return h, err
}

// get calls each with the lines of a page.
func (m *member) get(ctx context.Context, path string, each func(line string)) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.client+path, nil)
	if err != nil {
		return err
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, reply.Status)
	}
	text, err := io.ReadAll(reply.Body)
	for line := range strings.Lines(string(text)) {
		each(line)
	}
	return err
}

// openConnections opens connections, each of which has made one call.
func openConnections(ctx context.Context, m *member) (func() error, error) {
	var conns []*grpc.ClientConn
	end := func() (err error) {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	for range costsOf {
		conn, err := m.dial()
		if err != nil {
			return nil, errors.Join(err, end())
		}
		conns = append(conns, conn)
		if _, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("x")}); err != nil {
			return nil, errors.Join(err, end())
		}
	}
	return end, nil
}

// openStreams opens streams with one watcher each on one connection.
func openStreams(ctx context.Context, m *member) (func() error, error) {
	conn, err := m.dial()
	if err != nil {
		return nil, err
	}
	for range costsOf {
		s, err := pb.NewWatchClient(conn).Watch(ctx)
		if err == nil {
			err = watchOne(s, 1)
		}
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn.Close, nil
}

// openWatchers opens watchers of keys of their own on one stream.
func openWatchers(ctx context.Context, m *member) (func() error, error) {
	conn, err := m.dial()
	if err != nil {
		return nil, err
	}
	s, err := pb.NewWatchClient(conn).Watch(ctx)
	for i := 0; i < costsOf && err == nil; i++ {
		err = watchOne(s, i)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn.Close, nil
}

// watchOne adds a watcher of the key with a number.
func watchOne(s pb.Watch_WatchClient, number int) error {
	create := &pb.WatchCreateRequest{Key: fmt.Appendf(nil, "watched-%d", number)}
	if err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		return err
	}
	reply, err := s.Recv()
	if err == nil && !reply.Created {
		err = fmt.Errorf("not created: %v", reply)
	}
	return err
}

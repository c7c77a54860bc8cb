package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// watches are streams of watchers of which each event is checked: every watcher
// gets its events in order, each once, and in the end all of them.
type watches struct {
	r *run
	// seen, where there is one, also judges an event.
	seen func(w *watcher, e *mvccpb.Event) error

	clients []client
	cancel  []context.CancelFunc
	readers sync.WaitGroup

	mu        sync.Mutex
	got, want int64
	changed   chan struct{} // has one element when got has grown
	failed    chan struct{} // closed with failure
	failure   error
}

// watcher is one watcher of a stream; its fields are its stream's reader's.
type watcher struct {
	request *pb.WatchCreateRequest
	key     int
	shard   *shard
	last    int64 // revision of the newest event
	// consecutive is that it watches all that is written, one key a revision.
	consecutive bool
}

func newWatches(r *run) *watches {
	return &watches{r: r, changed: make(chan struct{}, 1), failed: make(chan struct{})}
}

// count is how many events came.
func (w *watches) count() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got
}

// stream opens a stream on a connection of its own, with its watchers.
func (w *watches) stream(ctx context.Context, list []*watcher) error {
	clients, err := w.r.connect(ctx, 1)
	if err != nil {
		return err
	}
	w.clients = append(w.clients, clients...)
	ctx, cancel := context.WithCancel(ctx)
	w.cancel = append(w.cancel, cancel)
	s, err := clients[0].open(ctx, pb.Watch_Watch_FullMethodName)
	if err != nil {
		return err
	}
	for i, one := range list {
		one.request.WatchId = int64(i)
		if err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: one.request}}); err != nil {
			return err
		}
	}
	for range list {
		var reply pb.WatchResponse
		if err := s.Receive(&reply); err != nil {
			return err
		}
		if !reply.Created || reply.Canceled {
			return fmt.Errorf("a watcher was not created: %s", reply.CancelReason)
		}
	}
	w.readers.Go(func() {
		defer s.Close()
		for {
			var reply pb.WatchResponse
			err := s.Receive(&reply)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				err = w.take(&reply, list)
			}
			if err != nil {
				w.fail(err)
				return
			}
		}
	})
	return nil
}

// take checks one response.
func (w *watches) take(reply *pb.WatchResponse, list []*watcher) error {
	if reply.Canceled {
		return fmt.Errorf("a watcher was cancelled: %s", reply.CancelReason)
	}
	if reply.WatchId < 0 || reply.WatchId >= int64(len(list)) {
		return wrongReply("events of a watcher that there is not")
	}
	one := list[reply.WatchId]
	for _, e := range reply.Events {
		if e.Kv.ModRevision <= one.last {
			return wrongReply("an event came twice or out of order")
		}
		if one.consecutive && e.Kv.ModRevision != one.last+1 {
			return wrongReply("an event is missing")
		}
		one.last = e.Kv.ModRevision
		if w.seen == nil {
			continue
		}
		if err := w.seen(one, e); err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.got += int64(len(reply.Events))
	w.mu.Unlock()
	w.tell()
	return nil
}

func (w *watches) tell() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watches) fail(err error) {
	w.mu.Lock()
	if w.failure == nil {
		w.failure = err
		close(w.failed)
	}
	w.mu.Unlock()
	w.r.errors.add(err)
}

// expect adds n to the events that are to come.
func (w *watches) expect(n int) {
	w.mu.Lock()
	w.want += int64(n)
	w.mu.Unlock()
}

// wait returns when all events have come, or none any more; none is expected
// before the patience is over.
func (w *watches) wait(ctx context.Context, patience time.Duration) error {
	timeout := time.NewTimer(patience + w.r.c.Timeout)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		got, want, failure := w.got, w.want, w.failure
		w.mu.Unlock()
		switch {
		case failure != nil:
			return nil // counted
		case got > want:
			return wrongReply("there were %d events of %d", got, want)
		case got == want:
			return nil
		}
		select {
		case <-w.changed:
			timeout.Reset(w.r.c.Timeout)
		case <-w.failed:
		case <-timeout.C:
			return wrongReply("%d of %d events did not come within %v", want-got, want, w.r.c.Timeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// close ends all streams and waits for their readers.
func (w *watches) close() {
	for _, cancel := range w.cancel {
		cancel()
	}
	w.readers.Wait()
	for _, c := range w.clients {
		_ = c.Close() // what it had to say, its stream said
	}
}

// stamp returns a value that says when it was made.
func (d *data) stamp(b []byte, i int, age time.Duration) []byte {
	b = append(b[:0], d.value(i, 0)...)
	binary.BigEndian.PutUint64(b, uint64(age))
	return b
}

// stamped checks such a value and returns what it says.
func (d *data) stamped(b []byte, i int) (time.Duration, error) {
	want := d.value(i, 0)
	if len(b) != len(want) {
		return 0, wrongReply("the value of an event is not what was written")
	}
	return time.Duration(binary.BigEndian.Uint64(b)), sameBytes("the value of an event", b[minValueSize:], want[minValueSize:])
}

package difftest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// watches are the watch streams of one side, one for each user.
type watches struct {
	streams map[string]*watchStream
}

// watchStream sorts what comes by watcher.
type watchStream struct {
	stream pb.Watch_WatchClient
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing comes any more
	// created are the answers to creations.
	created chan *pb.WatchResponse

	mu   sync.Mutex
	news sync.Cond // something was received
	logs map[int64]*watchLog
	// progress is the newest answer to a request for it.
	progress *pb.WatchResponse
	err      error
}

// watchLog is what one watcher got since it was looked at.
type watchLog struct {
	events   []*mvccpb.Event
	canceled *pb.WatchResponse
}

// open gives the stream of a user.
func (w *watches) open(ctx context.Context, s *side, user string) (*watchStream, error) {
	if ws := w.streams[user]; ws != nil {
		return ws, nil
	}
	ctx, cancel := context.WithCancel(s.withToken(ctx, user))
	stream, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	ws := &watchStream{
		stream: stream, cancel: cancel, done: make(chan struct{}),
		created: make(chan *pb.WatchResponse, 1), logs: map[int64]*watchLog{},
	}
	ws.news.L = &ws.mu
	if w.streams == nil {
		w.streams = map[string]*watchStream{}
	}
	w.streams[user] = ws
	go ws.receive()
	return ws, nil
}

func (ws *watchStream) receive() {
	defer close(ws.done)
	for {
		r, err := ws.stream.Recv()
		ws.mu.Lock()
		if err == nil {
			err = ws.note(r)
		}
		ws.err = err
		ws.news.Broadcast()
		ws.mu.Unlock()
		if err != nil {
			return
		}
		if r.Created {
			ws.created <- r
		}
	}
}

// progressID is the watcher that answers to a request for progress name.
const progressID = -1

// note adds a response to its watcher's log. The caller holds mu.
func (ws *watchStream) note(r *pb.WatchResponse) error {
	if r.WatchId == progressID {
		if !r.Created {
			ws.progress = r
		}
		return nil
	}
	if r.Created {
		ws.logs[r.WatchId] = &watchLog{}
	}
	log := ws.logs[r.WatchId]
	if log == nil {
		return fmt.Errorf("response for a watcher that there is not: %v", r)
	}
	if r.Canceled {
		log.canceled = r
	}
	for _, ev := range r.Events {
		if n := len(log.events); n > 0 && log.events[n-1].Kv.ModRevision > ev.Kv.ModRevision {
			return fmt.Errorf("watcher %d: revision %d after %d", r.WatchId, ev.Kv.ModRevision, log.events[n-1].Kv.ModRevision)
		}
		if ev.Kv.ModRevision > r.Header.Revision {
			return fmt.Errorf("watcher %d: an event of revision %d in a response of %d", r.WatchId, ev.Kv.ModRevision, r.Header.Revision)
		}
		log.events = append(log.events, ev)
	}
	return nil
}

// errStuck is for what did not come in time.
var errStuck = errors.New("did not come")

func stuck(err error) bool {
	return errors.Is(err, errStuck) || status.Code(err) == codes.DeadlineExceeded
}

// await waits until ready, which is called with mu held.
func (ws *watchStream) await(what string, ready func() bool) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	late := false
	timer := time.AfterFunc(callTimeout, func() {
		ws.mu.Lock()
		late = true
		ws.news.Broadcast()
		ws.mu.Unlock()
	})
	defer timer.Stop()
	for !ready() {
		switch {
		case ws.err != nil:
			return ws.err
		case late:
			return fmt.Errorf("%s %w", what, errStuck)
		}
		ws.news.Wait()
	}
	return nil
}

// take waits until the watcher's log is as wanted, and hands it over.
func (ws *watchStream) take(id int64, wanted func(*watchLog) bool) (log *watchLog, err error) {
	err = ws.await(fmt.Sprintf("what watcher %d waits for", id), func() bool {
		if log = ws.logs[id]; log == nil || !wanted(log) {
			return false
		}
		ws.logs[id] = &watchLog{}
		return true
	})
	return log, err
}

// createWatch starts a watcher on its user's stream.
type createWatch struct {
	as      string
	request *pb.WatchCreateRequest
}

func (c createWatch) String() string {
	return fmt.Sprintf("watch as %q: %s", c.as, prototext.MarshalOptions{}.Format(c.request))
}

func (c createWatch) play(ctx context.Context, s *side) answer {
	ws, err := s.watches.open(context.WithoutCancel(ctx), s, c.as)
	if err != nil {
		return answer{err: err}
	}
	r := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c.request}}
	if err := ws.stream.Send(r); err != nil {
		return answer{err: err}
	}
	select {
	case created := <-ws.created:
		cleanHeader(created.Header)
		return answer{messages: []proto.Message{created}}
	case <-ws.done:
		return answer{err: ws.err}
	case <-time.After(callTimeout):
		return answer{err: errStuck}
	}
}

// cancelWatch ends a watcher that lives.
type cancelWatch struct {
	as string
	id int64
}

func (c cancelWatch) String() string { return fmt.Sprintf("cancel watcher %d of %q", c.id, c.as) }

func (c cancelWatch) play(_ context.Context, s *side) answer {
	ws := s.watches.streams[c.as]
	r := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: c.id}}}
	if err := ws.stream.Send(r); err != nil {
		return answer{err: err}
	}
	log, err := ws.take(c.id, func(l *watchLog) bool { return l.canceled != nil })
	if err != nil {
		return answer{err: err}
	}
	cleanHeader(log.canceled.Header)
	return answer{messages: []proto.Message{log.canceled}}
}

// requestProgress asks the watchers of a stream whether they have got so far.
// Those that have not do not answer.
type requestProgress struct {
	as  string
	rev int64
}

func (p requestProgress) String() string {
	return fmt.Sprintf("progress of the watchers of %q to revision %d", p.as, p.rev)
}

func (p requestProgress) play(_ context.Context, s *side) answer {
	ws := s.watches.streams[p.as]
	stop, asked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(asked)
		r := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
		for ws.stream.Send(r) == nil {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond): // ask again
			}
		}
	}()
	var got *pb.WatchResponse
	err := ws.await("progress", func() bool {
		got = ws.progress
		return got != nil && got.Header.Revision >= p.rev
	})
	close(stop)
	<-asked
	if err != nil {
		return answer{err: err}
	}
	cleanHeader(got.Header)
	return answer{messages: []proto.Message{got}}
}

// expect waits until a watcher has got its number of events, or was cancelled.
type expect struct {
	as       string
	id       int64
	events   int
	canceled bool
	// early: etcd may have sent events before it knew that their previous values
	// were asked for, since it looks back before it notes that.
	early bool
}

func (e expect) String() string {
	return fmt.Sprintf("events of watcher %d of %q: %d, cancelled %v", e.id, e.as, e.events, e.canceled)
}

func (e expect) play(_ context.Context, s *side) answer {
	log, err := s.watches.streams[e.as].take(e.id, func(l *watchLog) bool {
		return len(l.events) >= e.events && (l.canceled != nil || !e.canceled)
	})
	if err != nil {
		return answer{err: err}
	}
	if e.early {
		for _, ev := range log.events {
			ev.PrevKv = nil
		}
	}
	got := &pb.WatchResponse{WatchId: e.id, Events: log.events}
	if c := log.canceled; c != nil {
		got.Header, got.Canceled, got.CancelReason, got.CompactRevision = c.Header, true, c.CancelReason, c.CompactRevision
		cleanHeader(got.Header)
	}
	return answer{messages: []proto.Message{got}}
}

// witness is the user of the watcher of all keys, which is there from the
// beginning, and tells what happened.
const witness = "witness"

// catchUp waits until the witness has seen a revision.
type catchUp struct{ rev int64 }

func (c catchUp) String() string { return fmt.Sprintf("all events up to revision %d", c.rev) }

func (c catchUp) play(_ context.Context, s *side) answer {
	log, err := s.watches.streams[witness].take(0, func(l *watchLog) bool {
		return len(l.events) > 0 && l.events[len(l.events)-1].Kv.ModRevision >= c.rev
	})
	if err != nil {
		return answer{err: err}
	}
	return answer{messages: []proto.Message{&pb.WatchResponse{Events: log.events}}}
}

// closeWatches ends all streams but the witness's.
type closeWatches struct{}

func (closeWatches) String() string { return "close the watch streams" }

func (closeWatches) play(_ context.Context, s *side) answer {
	for user, ws := range s.watches.streams {
		if user != witness {
			ws.cancel()
			<-ws.done
			delete(s.watches.streams, user)
		}
	}
	return answer{}
}

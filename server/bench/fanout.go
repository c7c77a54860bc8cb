package bench

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func watchScenarios() []Scenario {
	return []Scenario{
		{
			Name: "watch", Short: "Write keys that many watch; an event's latency is from before the write to its arrival",
			flags: func(c *Config) []func(*pflag.FlagSet) { return []func(*pflag.FlagSet){c.watchFlags} },
			make:  func(r *run) scenario { return &fanOut{r: r, watches: newWatches(r)} },
		},
	}
}

const (
	kindEvent = iota
	kindPut
)

// fanOut writes keys in turn, each of which some watchers watch.
type fanOut struct {
	r       *run
	watches *watches
	began   time.Time
}

func (f *fanOut) kinds() ([]string, int) { return []string{"event", "put"}, 1 }

func (f *fanOut) close() { f.watches.close() }

// watchersOf is how many watchers a key has.
func (f *fanOut) watchersOf(key int) int {
	c := f.r.c
	return (c.Watchers - key + c.WatchedKeys - 1) / c.WatchedKeys
}

func (f *fanOut) prepare(ctx context.Context, rec *recorder) error {
	c := f.r.c
	if c.Streams < 1 || c.Streams > max(1, c.Watchers) {
		return refused("streams", c.Streams, "1 to --watchers")
	}
	if c.WatchedKeys < 1 || c.WatchedKeys > max(1, c.Watchers) {
		return refused("watched-keys", c.WatchedKeys, "1 to --watchers")
	}
	f.began = time.Now()
	lists := make([][]*watcher, c.Streams)
	for i := range c.Watchers {
		key := i % c.WatchedKeys
		one := &watcher{key: key, shard: rec.shard(i % c.Streams), request: &pb.WatchCreateRequest{Key: f.r.data.key(nil, key)}}
		lists[i%c.Streams] = append(lists[i%c.Streams], one)
	}
	f.watches.seen = f.seen
	for _, list := range lists {
		if err := f.watches.stream(ctx, list); err != nil {
			return err
		}
	}
	return nil
}

func (f *fanOut) seen(w *watcher, e *mvccpb.Event) error {
	sent, err := f.r.data.stamped(e.Kv.Value, w.key)
	if err == nil {
		w.shard.record(kindEvent, time.Since(f.began)-sent)
	}
	return err
}

func (f *fanOut) measure(ctx context.Context, rec *recorder) ([]Figure, error) {
	err := f.r.drive(ctx, f.r.timed(f, rec), f.r.c.InFlight)
	if f.r.errors.err() != nil { // how many events there should be is not known
		return nil, err
	}
	return nil, errors.Join(err, f.watches.wait(ctx, 0))
}

func (f *fanOut) next(s *slot) bool {
	c := callOf[pb.PutRequest, pb.PutResponse](s)
	s.key, s.kind = int(s.number%int64(f.r.c.WatchedKeys)), kindPut
	s.keyBytes = f.r.data.key(s.keyBytes[:0], s.key)
	c.request.Key, c.request.Value = s.keyBytes, f.r.data.stamp(c.request.Value, s.key, time.Since(f.began))
	s.method, s.request, s.reply = pb.KV_Put_FullMethodName, &c.request, &c.reply
	return true
}

func (f *fanOut) check(s *slot) error {
	f.watches.expect(f.watchersOf(s.key))
	return puts{f.r}.check(s)
}

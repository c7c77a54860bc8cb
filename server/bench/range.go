package bench

import (
	"errors"
	"io"

	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func rangeScenarios() []Scenario {
	return []Scenario{{
		Name: "range", Short: "Read many keys at a time",
		flags: func(c *Config) []func(*pflag.FlagSet) { return []func(*pflag.FlagSet){c.rangeFlags} },
		make: func(r *run) scenario {
			load := ranges{r: r, size: r.c.RangeSize}
			if r.c.WholePrefix {
				load.size = r.c.KeySpace
			}
			s := &closed{r: r, load: load, names: []string{"range"}, fill: r.c.KeySpace}
			if r.c.Stream {
				s.do = load.stream
			}
			return s
		},
	}}
}

type ranges struct {
	r    *run
	size int
}

func (g ranges) next(s *slot) bool {
	c, d := g.r.c, g.r.data
	q := callOf[pb.RangeRequest, pb.RangeResponse](s)
	s.key = s.rng.IntN(c.KeySpace - g.size + 1)
	s.keyBytes = d.key(s.keyBytes[:0], s.key)
	s.endBytes = d.key(s.endBytes[:0], s.key+g.size)
	q.request.Key, q.request.RangeEnd = s.keyBytes, s.endBytes
	if c.WholePrefix {
		q.request.Key, q.request.RangeEnd = d.prefix, d.end()
	}
	q.request.Serializable, q.request.CountOnly, q.request.KeysOnly = c.Serializable, c.CountOnly, c.KeysOnly
	s.method, s.request, s.reply = pb.KV_Range_FullMethodName, &q.request, &q.reply
	return true
}

// stream gathers the parts of a RangeStream into the slot's reply.
func (g ranges) stream(s *slot) error {
	st, err := s.client.open(s.ctx, pb.KV_RangeStream_FullMethodName)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := errors.Join(st.Send(s.request), st.CloseSend()); err != nil {
		return err
	}
	whole := s.reply.(*pb.RangeResponse)
	proto.Reset(whole)
	for {
		var part pb.RangeStreamResponse
		if err := st.Receive(&part); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		join(whole, part.RangeResponse)
	}
}

// join adds a part, as proto.Merge would with a copy of all keys and values.
func join(whole, part *pb.RangeResponse) {
	whole.Kvs = append(whole.Kvs, part.GetKvs()...)
	if part.GetHeader() != nil {
		whole.Header = part.Header
	}
	whole.Count += part.GetCount()
	whole.More = whole.More || part.GetMore()
}

func (g ranges) check(s *slot) error {
	reply := s.reply.(*pb.RangeResponse)
	if err := s.header(reply.Header, false); err != nil {
		return err
	}
	rows := g.size
	if g.r.c.CountOnly {
		rows = 0
	}
	return g.r.checkRows(s, reply, s.key, rows, g.size)
}

// checkRows checks the answer of a range over keys that were only filled: rows
// from key first on, and count and more as they are for all.
func (r *run) checkRows(s *slot, reply *pb.RangeResponse, first, rows, all int) error {
	switch {
	case reply.Count != int64(all):
		return wrongReply("the count is not that of the keys")
	case len(reply.Kvs) != rows:
		return wrongReply("there are fewer or more keys than there should be")
	case reply.More != (rows > 0 && rows < all):
		return wrongReply("more keys are announced than there are, or fewer")
	}
	for i, kv := range reply.Kvs {
		s.endBytes = r.data.key(s.endBytes[:0], first+i)
		if err := sameBytes("a key of the range", kv.Key, s.endBytes); err != nil {
			return err
		}
		want := r.data.value(first+i, 0)
		if r.c.KeysOnly {
			want = nil
		}
		if err := sameBytes("a value of the range", kv.Value, want); err != nil {
			return err
		}
	}
	return nil
}

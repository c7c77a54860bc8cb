package bench

import (
	"context"

	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func kvScenarios() []Scenario {
	return []Scenario{
		{
			Name: "put", Short: "Write keys",
			flags: func(c *Config) []func(*pflag.FlagSet) { return []func(*pflag.FlagSet){c.orderFlags} },
			make:  func(r *run) scenario { return &closed{r: r, load: puts{r}, names: []string{"put"}} },
		},
		{
			Name: "get", Short: "Read single keys",
			flags: func(c *Config) []func(*pflag.FlagSet) { return []func(*pflag.FlagSet){c.orderFlags, c.readFlags} },
			make:  func(r *run) scenario { return &closed{r: r, load: gets{r}, names: []string{"get"}, fill: r.c.KeySpace} },
		},
		{
			Name: "delete", Short: "Delete single keys, each once; ends when no key is left",
			make: func(r *run) scenario {
				return &closed{r: r, load: deletes{r}, names: []string{"delete"}, fill: r.c.KeySpace, limit: int64(r.c.KeySpace)}
			},
		},
	}
}

// pick chooses the operation's key.
func (r *run) pick(s *slot) {
	if r.c.Sequential {
		s.key = int(s.number % int64(r.c.KeySpace))
	} else {
		s.key = s.rng.IntN(r.c.KeySpace)
	}
	s.keyBytes = r.data.key(s.keyBytes[:0], s.key)
}

// call prepares a call of the type's messages, which the slot keeps.
type call[Q, A any] struct {
	request Q
	reply   A
}

// callOf returns the slot's messages for one method, made once.
func callOf[Q, A any](s *slot) *call[Q, A] {
	if c, ok := s.state.(*call[Q, A]); ok {
		return c
	}
	c := &call[Q, A]{}
	s.state = c
	return c
}

type puts struct{ r *run }

func (p puts) next(s *slot) bool {
	c := callOf[pb.PutRequest, pb.PutResponse](s)
	p.r.pick(s)
	c.request.Key, c.request.Value = s.keyBytes, p.r.data.value(s.key, 0)
	s.method, s.request, s.reply = pb.KV_Put_FullMethodName, &c.request, &c.reply
	return true
}

func (p puts) check(s *slot) error {
	return s.header(s.reply.(*pb.PutResponse).Header, true)
}

type gets struct{ r *run }

func (g gets) next(s *slot) bool {
	c := callOf[pb.RangeRequest, pb.RangeResponse](s)
	g.r.pick(s)
	c.request.Key, c.request.Serializable = s.keyBytes, g.r.c.Serializable
	s.method, s.request, s.reply = pb.KV_Range_FullMethodName, &c.request, &c.reply
	return true
}

func (g gets) check(s *slot) error {
	reply := s.reply.(*pb.RangeResponse)
	if err := s.header(reply.Header, false); err != nil {
		return err
	}
	if reply.Count != 1 || len(reply.Kvs) != 1 {
		return wrongReply("a key that was written is not there")
	}
	if err := sameBytes("the key", reply.Kvs[0].Key, s.keyBytes); err != nil {
		return err
	}
	return sameBytes("the value", reply.Kvs[0].Value, g.r.data.value(s.key, 0))
}

type deletes struct{ r *run }

func (d deletes) next(s *slot) bool {
	c := callOf[pb.DeleteRangeRequest, pb.DeleteRangeResponse](s)
	s.key = int(s.number)
	s.keyBytes = d.r.data.key(s.keyBytes[:0], s.key)
	c.request.Key = s.keyBytes
	s.method, s.request, s.reply = pb.KV_DeleteRange_FullMethodName, &c.request, &c.reply
	return true
}

func (d deletes) check(s *slot) error {
	reply := s.reply.(*pb.DeleteRangeResponse)
	if reply.Deleted != 1 {
		return wrongReply("a key that was there was not deleted")
	}
	return s.header(reply.Header, true)
}

const (
	// fillBatch keeps below a server's limits on transactions: 128 operations,
	// and bytes.
	fillBatch = 100
	fillBytes = 512 << 10
	fillSlots = 64
)

// fills writes all keys once, in transactions.
type fills struct {
	r           *run
	keys, batch int
}

// fill writes the first n keys.
func (r *run) fill(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	r.revisions = make([]int64, n)
	f := fills{r: r, keys: n, batch: max(1, min(fillBatch, fillBytes/(r.c.KeySize+r.c.ValueSize)))}
	l := &loop{load: f, errors: &r.errors, limit: int64((n + f.batch - 1) / f.batch)}
	return r.drive(ctx, l, fillSlots)
}

func (f fills) next(s *slot) bool {
	request := &pb.TxnRequest{}
	first := int(s.number) * f.batch
	for i := first; i < min(first+f.batch, f.keys); i++ {
		put := &pb.PutRequest{Key: f.r.data.key(nil, i), Value: f.r.data.value(i, 0)}
		request.Success = append(request.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
	}
	s.method, s.request, s.reply = pb.KV_Txn_FullMethodName, request, &pb.TxnResponse{}
	return true
}

func (f fills) check(s *slot) error {
	revision := s.reply.(*pb.TxnResponse).GetHeader().GetRevision()
	first := int(s.number) * f.batch
	for i := first; i < min(first+f.batch, f.keys); i++ {
		f.r.revisions[i] = revision
	}
	return s.header(s.reply.(*pb.TxnResponse).Header, true)
}

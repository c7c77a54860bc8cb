package bench

import (
	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func txnScenarios() []Scenario {
	return []Scenario{
		{
			Name: "txn", Short: "Compare and swap: write a key if it is still at the revision of its last write",
			make: func(r *run) scenario {
				return &closed{r: r, load: swaps{r}, names: []string{"swap"}, fill: r.c.KeySpace, own: true}
			},
		},
		{
			Name: "txn-mixed", Short: "Transactions that read or write one key",
			flags: func(c *Config) []func(*pflag.FlagSet) { return []func(*pflag.FlagSet){c.orderFlags, c.mixFlags} },
			make: func(r *run) scenario {
				return &closed{r: r, load: mixed{r}, names: []string{"read", "write"}, fill: r.c.KeySpace}
			},
		},
	}
}

// pickOwn chooses one of the first n keys that only this slot writes; n is at
// least the number of slots.
func (r *run) pickOwn(s *slot, n int) {
	slots := r.c.InFlight
	own := (n - s.id + slots - 1) / slots // those with key % slots == id
	s.key = s.id + slots*s.rng.IntN(own)
	s.keyBytes = r.data.key(s.keyBytes[:0], s.key)
}

// swaps compares and swaps keys that nobody else writes, which has to succeed.
type swaps struct{ r *run }

func (w swaps) next(s *slot) bool {
	w.r.pickOwn(s, w.r.c.KeySpace)
	w.swap(s)
	return true
}

// swap is also how Kubernetes updates an object.
func (w swaps) swap(s *slot) {
	s.guard(w.r.revisions[s.key], &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: s.keyBytes, Value: w.r.data.value(s.key, 0)},
	}})
}

// guard prepares op for when the slot's key was last written at revision, else
// a read.
func (s *slot) guard(revision int64, op *pb.RequestOp) {
	s.method, s.reply = pb.KV_Txn_FullMethodName, &pb.TxnResponse{}
	s.request = &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, Key: s.keyBytes,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
		}},
		Success: []*pb.RequestOp{op},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: s.keyBytes}}}},
	}
}

func (w swaps) check(s *slot) error {
	reply := s.reply.(*pb.TxnResponse)
	if !reply.Succeeded || len(reply.Responses) != 1 || reply.Responses[0].GetResponsePut() == nil {
		return wrongReply("a key that nobody else writes was not at its last revision")
	}
	w.r.revisions[s.key] = reply.Header.GetRevision()
	return s.header(reply.Header, true)
}

const (
	kindRead = iota
	kindWrite
)

type mixed struct{ r *run }

func (m mixed) next(s *slot) bool {
	m.r.pick(s)
	s.method, s.reply, s.kind = pb.KV_Txn_FullMethodName, &pb.TxnResponse{}, kindWrite
	op := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: s.keyBytes, Value: m.r.data.value(s.key, 0)}}}
	if s.rng.IntN(100) < m.r.c.ReadPercent {
		s.kind = kindRead
		op = &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: s.keyBytes, Serializable: m.r.c.Serializable}}}
	}
	s.request = &pb.TxnRequest{Success: []*pb.RequestOp{op}}
	return true
}

func (m mixed) check(s *slot) error {
	reply := s.reply.(*pb.TxnResponse)
	if err := s.header(reply.Header, s.kind == kindWrite); err != nil {
		return err
	}
	if !reply.Succeeded || len(reply.Responses) != 1 {
		return wrongReply("a transaction without conditions did not succeed")
	}
	if s.kind == kindWrite {
		return nil
	}
	rows := reply.Responses[0].GetResponseRange()
	if rows.GetCount() != 1 || len(rows.Kvs) != 1 {
		return wrongReply("a key that was written is not there")
	}
	return sameBytes("the value", rows.Kvs[0].Value, m.r.data.value(s.key, 0))
}

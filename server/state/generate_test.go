package state

import (
	"fmt"
	"math/rand"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// generator makes random requests around a small set of keys, leases and
// revisions, so that they meet.
type generator struct {
	rng *rand.Rand
	// rev and compacted are about what the store has; bounds for revisions.
	rev, compacted int64
	// keep lets the puts of a transaction keep values and leases. Then it has
	// no deletes up to the end of all keys: etcd does not see that such a
	// delete names the same key, and panics.
	keep bool
}

var generatedKeys = []string{
	"a", "a/", "a/1", "a/2", "a/\xff", "b", "b\x00", "\x00", "\xff", "\xff\xff", "\xf0\x28", "zz",
}

func (g *generator) chance(percent int) bool { return g.rng.Intn(100) < percent }

func (g *generator) key() []byte { return []byte(generatedKeys[g.rng.Intn(len(generatedKeys))]) }

func (g *generator) end(from []byte) []byte {
	switch g.rng.Intn(6) {
	case 0, 1:
		return nil
	case 2:
		return []byte{0}
	case 3: // the prefix
		end := append([]byte(nil), from...)
		if end[len(end)-1] == 0xff {
			return []byte{0}
		}
		end[len(end)-1]++
		return end
	}
	return g.key() // maybe before from
}

func (g *generator) lease() int64 { return int64(g.rng.Intn(6) + 1) }

func (g *generator) revision() int64 {
	if g.chance(60) {
		return 0
	}
	return g.compacted - 3 + g.rng.Int63n(max(g.rev-g.compacted, 0)+6)
}

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), PrevKv: g.chance(30)}
	switch g.rng.Intn(10) {
	case 0:
		r.IgnoreValue = true
	case 1:
	default:
		r.Value = fmt.Appendf(nil, "v%d", g.rng.Intn(5))
	}
	switch g.rng.Intn(10) {
	case 0:
		r.IgnoreLease = true
	case 1, 2, 3:
		r.Lease = g.lease()
	}
	return r
}

func (g *generator) delete() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{Key: g.key(), PrevKv: g.chance(40)}
	if g.chance(30) {
		r.RangeEnd = g.end(r.Key)
	}
	return r
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	r := &pb.RangeRequest{
		Key: g.key(), Revision: g.revision(), Serializable: true,
		KeysOnly: g.chance(15), CountOnly: g.chance(10),
	}
	r.RangeEnd = g.end(r.Key)
	if g.chance(40) {
		r.Key, r.RangeEnd = []byte{0}, []byte{0}
	}
	r.Limit = []int64{0, 0, 0, -1, 1, 2, 3, 100, 1<<63 - 1}[g.rng.Intn(9)]
	if g.chance(50) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.rng.Intn(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.rng.Intn(5))
	}
	for _, bound := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if g.chance(12) {
			*bound = g.rng.Int63n(g.rev + 3)
		}
	}
	return r
}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{Key: g.key(), Result: pb.Compare_CompareResult(g.rng.Intn(4))}
	if g.chance(30) {
		c.RangeEnd = g.end(c.Key)
	}
	switch c.Target = pb.Compare_CompareTarget(g.rng.Intn(5)); c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: int64(g.rng.Intn(4))}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.someRevision()}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.someRevision()}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: fmt.Appendf(nil, "v%d", g.rng.Intn(5))}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: int64(g.rng.Intn(4))}
	}
	if g.chance(3) {
		c.TargetUnion = nil
	}
	return c
}

func (g *generator) someRevision() int64 {
	if g.chance(40) {
		return 0
	}
	return max(g.rev-g.rng.Int63n(30), 0)
}

func (g *generator) txn(depth int, readOnly bool) *pb.TxnRequest {
	g.keep = g.chance(50)
	return g.subTxn(depth, readOnly)
}

func (g *generator) subTxn(depth int, readOnly bool) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for range g.rng.Intn(3) {
		t.Compare = append(t.Compare, g.compare())
	}
	for range g.rng.Intn(4) {
		t.Success = append(t.Success, g.op(depth, readOnly))
	}
	for range g.rng.Intn(3) {
		t.Failure = append(t.Failure, g.op(depth, readOnly))
	}
	return t
}

func (g *generator) op(depth int, readOnly bool) *pb.RequestOp {
	kind := g.rng.Intn(10)
	switch {
	case kind == 0 && depth > 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.subTxn(depth-1, readOnly)}}
	case kind < 4 || readOnly:
		r := g.rangeRequest()
		if g.chance(70) {
			r.Revision = 0
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
	case kind < 8:
		p := g.put()
		p.IgnoreValue, p.IgnoreLease = p.IgnoreValue && g.keep, p.IgnoreLease && g.keep
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: p}}
	}
	d := g.delete()
	if g.chance(50) || g.keep && string(d.RangeEnd) == "\x00" {
		d.RangeEnd = nil
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: d}}
}

func (g *generator) compaction() *pb.CompactionRequest {
	low := max(g.compacted-1, 0)
	return &pb.CompactionRequest{Revision: low + g.rng.Int63n(max(g.rev-low, 0)+3), Physical: g.chance(50)}
}

func (g *generator) grant() *pb.LeaseGrantRequest {
	r := &pb.LeaseGrantRequest{ID: g.lease(), TTL: 100_000 + g.rng.Int63n(1000)}
	if g.chance(5) {
		r.TTL = 9_000_000_001
	}
	return r
}

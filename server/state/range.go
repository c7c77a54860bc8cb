package state

import (
	"bytes"
	"cmp"
	"math"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/mvcc"
)

// Range reads the published state, with every option of etcd. Errors:
// mvcc.ErrCompacted, mvcc.ErrFutureRev, or those of the engine.
func (m *Machine) Range(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return m.RangeWithin(r, nil)
}

// Grow is told how many bytes an answer takes while it is read; its error ends
// the read.
type Grow func(sizeBytes int) error

// RangeWithin is Range for an answer that may be too large.
func (m *Machine) RangeWithin(r *pb.RangeRequest, grow Grow) (*pb.RangeResponse, error) {
	return rangeFrom(current{kv: m.kv, grow: grow}, r)
}

// RangeEncoded is RangeWithin for an answer that is only sent: where the request
// allows it, the pairs are not in Kvs but, encoded as they are stored, among the
// fields that the message does not know, so that they need not be decoded and
// encoded again. On the wire they are the same.
func (m *Machine) RangeEncoded(r *pb.RangeRequest, grow Grow) (*pb.RangeResponse, error) {
	if len(r.RangeEnd) == 0 || r.CountOnly || r.KeysOnly || hasRevisionFilter(r) ||
		r.SortTarget != pb.RangeRequest_KEY || !isDefaultOrder(r.SortTarget, r.SortOrder) {
		return m.RangeWithin(r, grow)
	}
	res, err := m.kv.Range(r.Key, r.RangeEnd, mvcc.RangeOptions{Rev: r.Revision, Limit: r.Limit, EncodeTag: kvsTag, Grow: grow})
	if err != nil {
		return nil, err
	}
	resp := &pb.RangeResponse{
		Header: &pb.ResponseHeader{Revision: res.Rev}, Count: res.Count,
		More: r.Limit > 0 && res.Count > r.Limit,
	}
	resp.ProtoReflect().SetUnknown(res.Encoded)
	return resp, nil
}

// kvsTag is that of RangeResponse.kvs: number << 3 | wire type.
const kvsTag = 2<<3 | 2

// RangeUncounted is RangeWithin with a Count that means nothing: at an old
// revision it looks no further than its limit.
func (m *Machine) RangeUncounted(r *pb.RangeRequest, grow Grow) (*pb.RangeResponse, error) {
	return rangeFrom(current{kv: m.kv, grow: grow, uncounted: true}, r)
}

// current reads what is published now.
type current struct {
	kv        *mvcc.Store
	grow      Grow
	uncounted bool
}

func (c current) Range(key, end []byte, o mvcc.RangeOptions) (mvcc.RangeResult, error) {
	o.Uncounted, o.Grow = c.uncounted, c.grow
	return c.kv.Range(key, end, o)
}

// ranger reads keys: mvcc's store, its writer, or a store pinned to a revision.
type ranger interface {
	Range(key, end []byte, o mvcc.RangeOptions) (mvcc.RangeResult, error)
}

// rangeFrom answers a range request as etcd does. Count is what the range
// holds, beyond limit and filters.
func rangeFrom(from ranger, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	res, err := from.Range(r.Key, r.RangeEnd, mvcc.RangeOptions{
		Rev:       r.Revision,
		Limit:     readLimit(r),
		CountOnly: r.CountOnly,
		KeysOnly:  ReadsKeysOnly(r),
	})
	if err != nil {
		return nil, err
	}
	kvs := Arrange(filterKVs(res.KVs, r), r)
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: res.Rev}, Count: res.Count}
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, resp.More = kvs[:r.Limit], true
	}
	resp.Kvs = kvs
	return resp, nil
}

// ReadsKeysOnly tells whether a request can be answered without values: sorting
// by them needs them even where they are not wanted.
func ReadsKeysOnly(r *pb.RangeRequest) bool {
	return r.KeysOnly && r.SortTarget != pb.RangeRequest_VALUE
}

// Arrange brings pairs that come in the order of keys into the wanted order, and
// takes away the values that were only read for that.
func Arrange(kvs []*mvccpb.KeyValue, r *pb.RangeRequest) []*mvccpb.KeyValue {
	kvs = sortKVs(kvs, r)
	if r.KeysOnly && !ReadsKeysOnly(r) {
		return withoutValues(kvs)
	}
	return kvs
}

// readLimit is how many keys have to be read: one more than wanted, to know
// whether there are more; all of them when they are sorted or filtered
// afterwards.
func readLimit(r *pb.RangeRequest) int64 {
	switch {
	case r.Limit <= 0 || !isDefaultOrder(r.SortTarget, r.SortOrder) || hasRevisionFilter(r):
		return 0
	case r.Limit == math.MaxInt64:
		return r.Limit
	}
	return r.Limit + 1
}

// isDefaultOrder tells whether keys come in the wanted order by themselves. It
// holds without an order whatever the target is: a limit then cuts by key, and
// only what is left is sorted by the target, as in etcd.
func isDefaultOrder(t pb.RangeRequest_SortTarget, o pb.RangeRequest_SortOrder) bool {
	return o == pb.RangeRequest_NONE || (t == pb.RangeRequest_KEY && o == pb.RangeRequest_ASCEND)
}

func hasRevisionFilter(r *pb.RangeRequest) bool {
	return r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
}

func filterKVs(kvs []*mvccpb.KeyValue, r *pb.RangeRequest) []*mvccpb.KeyValue {
	if !hasRevisionFilter(r) {
		return kvs
	}
	kept := make([]*mvccpb.KeyValue, 0, len(kvs))
	for _, kv := range kvs {
		if between(kv.ModRevision, r.MinModRevision, r.MaxModRevision) &&
			between(kv.CreateRevision, r.MinCreateRevision, r.MaxCreateRevision) {
			kept = append(kept, kv)
		}
	}
	return kept
}

// between treats a bound of 0 as none.
func between(rev, low, high int64) bool {
	return (low == 0 || rev >= low) && (high == 0 || rev <= high)
}

// sortKVs returns the pairs in the wanted order. A target without an order
// means ascending. Ties come out as etcd's sort leaves them, which is why the
// sort is not a stable one.
func sortKVs(kvs []*mvccpb.KeyValue, r *pb.RangeRequest) []*mvccpb.KeyValue {
	order := r.SortOrder
	if r.SortTarget != pb.RangeRequest_KEY && order == pb.RangeRequest_NONE {
		order = pb.RangeRequest_ASCEND
	}
	if isDefaultOrder(r.SortTarget, order) {
		return kvs
	}
	sorter := &kvSort{kvs: append([]*mvccpb.KeyValue(nil), kvs...), compare: comparison(r.SortTarget)}
	if order == pb.RangeRequest_DESCEND {
		sort.Sort(sort.Reverse(sorter))
	} else {
		sort.Sort(sorter)
	}
	return sorter.kvs
}

type kvSort struct {
	kvs     []*mvccpb.KeyValue
	compare func(a, b *mvccpb.KeyValue) int
}

func (s *kvSort) Len() int           { return len(s.kvs) }
func (s *kvSort) Less(i, j int) bool { return s.compare(s.kvs[i], s.kvs[j]) < 0 }
func (s *kvSort) Swap(i, j int)      { s.kvs[i], s.kvs[j] = s.kvs[j], s.kvs[i] }

func comparison(t pb.RangeRequest_SortTarget) func(a, b *mvccpb.KeyValue) int {
	switch t {
	case pb.RangeRequest_VERSION:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.Version, b.Version) }
	case pb.RangeRequest_CREATE:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) }
	case pb.RangeRequest_MOD:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) }
	case pb.RangeRequest_VALUE:
		return func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Value, b.Value) }
	}
	return func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) }
}

// withoutValues copies: what mvcc returns is shared.
func withoutValues(kvs []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	out := make([]*mvccpb.KeyValue, len(kvs))
	for i, kv := range kvs {
		out[i] = &mvccpb.KeyValue{
			Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
			Version: kv.Version, Lease: kv.Lease,
		}
	}
	return out
}

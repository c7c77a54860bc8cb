package state

import (
	"fmt"
	"math"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// pairOverheadBytes is the most that a pair is taken to have beside its row.
const pairOverheadBytes = 24

// An answer whose pairs come encoded is on the wire what the other one is,
// whatever is asked.
func TestRangeEncoded(t *testing.T) {
	m := newMachine(t)
	const keys = 5000
	for i := range keys {
		m.do(KindPut, &pb.PutRequest{Key: fmt.Appendf(nil, "k%05d", i*7919%keys), Value: fmt.Appendf(nil, "v%d", i)})
	}
	old := m.KV().Rev()
	m.do(KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("k00100"), RangeEnd: []byte("k00200")})
	m.do(KindPut, &pb.PutRequest{Key: []byte("k00150")})
	encoded := 0
	for _, r := range []*pb.RangeRequest{
		{Key: []byte("k00150")}, {Key: []byte("x")},
		{Key: []byte("k"), RangeEnd: []byte("l")}, {Key: []byte{0}, RangeEnd: []byte{0}}, {Key: []byte("x"), RangeEnd: []byte("y")},
		{Key: []byte("k"), RangeEnd: []byte("l"), SortOrder: pb.RangeRequest_DESCEND},
		{Key: []byte("k"), RangeEnd: []byte("l"), SortTarget: pb.RangeRequest_MOD},
		{Key: []byte("k"), RangeEnd: []byte("l"), KeysOnly: true}, {Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true},
		{Key: []byte("k"), RangeEnd: []byte("l"), MinModRevision: 2000},
	} {
		for _, rev := range []int64{0, old} {
			for _, limit := range []int64{0, 1, 200, keys, math.MaxInt64} {
				r.Revision, r.Limit = rev, limit
				want, err := m.RangeWithin(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				sum := 0
				got, err := m.RangeEncoded(r, func(n int) error { sum += n; return nil })
				if err != nil {
					t.Fatal(err)
				}
				isEncoded := len(got.ProtoReflect().GetUnknown()) > 0
				if isEncoded {
					encoded++
				}
				bytes, err := proto.Marshal(got)
				if err != nil {
					t.Fatal(err)
				}
				if isEncoded && (sum < len(bytes) || sum > len(bytes)+pairOverheadBytes*len(want.Kvs)) {
					t.Errorf("%v: told of %d bytes of %d", r, sum, len(bytes))
				}
				read := &pb.RangeResponse{}
				if err := proto.Unmarshal(bytes, read); err != nil || !proto.Equal(read, want) {
					t.Errorf("%v: got %d pairs, count %d, more %v; want %d, %d, %v; %v", r, len(read.Kvs), read.Count, read.More,
						len(want.Kvs), want.Count, want.More, err)
				}
			}
		}
	}
	if encoded < 20 {
		t.Errorf("%d answers were encoded", encoded)
	}
	if _, err := m.RangeEncoded(&pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Revision: 1 << 40}, nil); err == nil {
		t.Error("a revision that is not there was read")
	}
}

package difftest

import (
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// clean takes out of an answer what two servers may not have in common: who
// they are, how large their files are, what they chose by chance, and time. Of
// numbers it leaves whether there was one.
func clean(request, answer proto.Message) {
	if h, ok := answer.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		cleanHeader(h.GetHeader())
	}
	switch r := answer.(type) {
	case *pb.RangeStreamResponse:
		cleanHeader(r.RangeResponse.GetHeader())
	case *pb.LeaseGrantResponse:
		if request.(*pb.LeaseGrantRequest).ID == 0 {
			r.ID = isSet(r.ID)
		}
	case *pb.LeaseTimeToLiveResponse:
		if r.TTL > 0 && r.GrantedTTL-r.TTL <= callSeconds {
			r.TTL = r.GrantedTTL
		}
		slices.SortFunc(r.Keys, slices.Compare)
	case *pb.LeaseLeasesResponse: // etcd sorts by what is left of them
		slices.SortFunc(r.Leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
	case *pb.AuthenticateResponse:
		if r.Token != "" {
			r.Token = "a token"
		}
	case *pb.StatusResponse:
		r.DbSize, r.DbSizeInUse = isSet(r.DbSize), isSet(r.DbSizeInUse)
		r.Leader, r.RaftTerm = isSet(r.Leader), isSet(r.RaftTerm)
		r.RaftIndex, r.RaftAppliedIndex = isSet(r.RaftIndex), isSet(r.RaftAppliedIndex)
		r.StorageVersion = "" // etcd raises it some seconds after its start
	case *pb.HashResponse:
		r.Hash = isSet(r.Hash)
	case *pb.SnapshotResponse:
		proto.Reset(r)
	}
	cleanMembers(answer)
}

// callSeconds is how much less than granted a lease may have left, in a run
// that takes no longer.
const callSeconds = 3600

func cleanMembers(answer proto.Message) {
	if r, ok := answer.(*pb.MemberAddResponse); ok {
		cleanMember(r.Member)
	}
	if r, ok := answer.(interface{ GetMembers() []*pb.Member }); ok {
		members := r.GetMembers()
		for _, m := range members {
			cleanMember(m)
		}
		slices.SortFunc(members, func(a, b *pb.Member) int { return slices.Compare(a.PeerURLs, b.PeerURLs) })
	}
}

func cleanMember(m *pb.Member) {
	if m != nil {
		m.ID = isSet(m.ID)
		m.ClientURLs = make([]string, len(m.ClientURLs))
	}
}

func cleanHeader(h *pb.ResponseHeader) {
	if h != nil {
		h.ClusterId, h.MemberId, h.RaftTerm = isSet(h.ClusterId), isSet(h.MemberId), isSet(h.RaftTerm)
	}
}

func isSet[T int64 | uint64 | uint32](n T) T {
	if n != 0 {
		return 1
	}
	return 0
}

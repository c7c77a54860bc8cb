package state

import (
	"encoding/binary"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Tags of etcdserverpb.PutRequest's fields: number << 3 | wire type.
const (
	tagPutKey         = 1<<3 | 2
	tagPutValue       = 2<<3 | 2
	tagPutLease       = 3<<3 | 0
	tagPutPrevKv      = 4<<3 | 0
	tagPutIgnoreValue = 5<<3 | 0
	tagPutIgnoreLease = 6<<3 | 0
)

// decodePut is decode for puts, which most commands are. The result shares no
// memory with body.
func decodePut(body []byte, r *pb.PutRequest) error {
	r.Reset()
	if plainPut(body, r) {
		own := make([]byte, 0, len(r.Key)+len(r.Value))
		own = append(append(own, r.Key...), r.Value...)
		r.Key, r.Value = own[:len(r.Key):len(r.Key)], own[len(r.Key):]
		return nil
	}
	r.Reset()
	return decode(body, r)
}

// plainPut reads what marshalling a put gives: the known fields, each in its own
// wire type. Anything else is left to protobuf. Key and value alias body.
func plainPut(body []byte, r *pb.PutRequest) bool {
	for len(body) > 0 {
		tag := body[0]
		v, n := binary.Uvarint(body[1:])
		if n <= 0 {
			return false
		}
		body = body[1+n:]
		switch tag {
		case tagPutKey, tagPutValue:
			if v == 0 || v > uint64(len(body)) {
				return false
			}
			if tag == tagPutKey {
				r.Key = body[:v:v]
			} else {
				r.Value = body[:v:v]
			}
			body = body[v:]
		case tagPutLease:
			r.Lease = int64(v)
		case tagPutPrevKv:
			r.PrevKv = v != 0
		case tagPutIgnoreValue:
			r.IgnoreValue = v != 0
		case tagPutIgnoreLease:
			r.IgnoreLease = v != 0
		default:
			return false
		}
	}
	return true
}

// putAnswer is a response in one piece of memory.
type putAnswer struct {
	resp   pb.PutResponse
	header pb.ResponseHeader
}

func newPutResponse() *pb.PutResponse {
	a := &putAnswer{}
	a.resp.Header = &a.header
	return &a.resp
}

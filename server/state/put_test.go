package state

import (
	"bytes"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// FuzzDecodePut compares decodePut with protobuf on any bytes.
func FuzzDecodePut(f *testing.F) {
	for _, r := range []*pb.PutRequest{
		{}, {Key: []byte("k")}, {Key: []byte("k"), Value: []byte("v"), Lease: -1, PrevKv: true},
		{Key: bytes.Repeat([]byte("k"), 300), IgnoreValue: true, IgnoreLease: true, Lease: 7},
	} {
		body, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte{tagPutKey, 0})                                         // an empty field
	f.Add([]byte{tagPutKey, 1, 'a', tagPutKey, 1, 'b', tagPutValue, 9}) // the last one counts; the end is missing
	f.Add([]byte{tagPutPrevKv, 0x80, 0x00, tagPutLease, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{tagPutKey | 1, 1, 'a'})
	f.Add([]byte{7<<3 | 2, 1, 'a', tagPutKey, 1, 'b'}) // a field of a later version
	f.Fuzz(func(t *testing.T, body []byte) {
		got, want := &pb.PutRequest{Key: []byte("left over"), IgnoreLease: true}, &pb.PutRequest{}
		err, wantErr := decodePut(body, got), decode(body, want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, protobuf's %v", err, wantErr)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatalf("got %v, protobuf has %v", got, want)
		}
		for i := range body {
			body[i]++
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatal("the request shares memory with its encoding")
		}
	})
}

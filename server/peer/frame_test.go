package peer

import (
	"bufio"
	"bytes"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func sample(index uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), To: proto.Uint64(2), From: proto.Uint64(1), Term: proto.Uint64(3), Index: proto.Uint64(index),
		Entries: []*raftpb.Entry{{Term: proto.Uint64(3), Index: proto.Uint64(index + 1), Data: bytes.Repeat([]byte("x"), 100)}},
	}
}

func TestFrames(t *testing.T) {
	var b []byte
	var err error
	for i := range uint64(3) {
		if b, err = appendFrame(b, 9, sample(i)); err != nil {
			t.Fatal(err)
		}
		b = append(b, 0, 0, 0, 0) // a beat
	}
	r := bufio.NewReader(bytes.NewReader(b))
	for i := range uint64(3) {
		group, m, err := readFrame(r)
		if err != nil || group != 9 || !proto.Equal(m, sample(i)) {
			t.Fatalf("group %d, %v, %v", group, m, err)
		}
		if _, m, err := readFrame(r); m != nil || err != nil {
			t.Fatalf("a beat gave %v, %v", m, err)
		}
	}
}

// No changed bit of a frame goes unseen.
func TestFrameDamage(t *testing.T) {
	whole, err := appendFrame(nil, 9, sample(1))
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		if _, m, err := readFrame(bufio.NewReader(bytes.NewReader(b))); err == nil && m != nil {
			t.Fatalf("bit %d was changed and the frame was taken", i)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	whole, err := appendFrame(nil, 9, sample(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		group, m, err := readFrame(bufio.NewReader(bytes.NewReader(b)))
		if err != nil || m == nil {
			return
		}
		again, err := appendFrame(nil, group, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, m2, err := readFrame(bufio.NewReader(bytes.NewReader(again))); err != nil || !proto.Equal(m, m2) {
			t.Fatalf("%v was written and %v read, %v", m, m2, err)
		}
	})
}

// The message that leads a snapshot says who votes, and no flipped bit in it goes
// unseen.
func TestLeadDamage(t *testing.T) {
	kind, index := raftpb.MsgSnap, uint64(7)
	m := &raftpb.Message{Type: &kind, Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: &index, ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
	}}}
	lead, err := appendLead(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readLead(bytes.NewReader(lead))
	if err != nil || !proto.Equal(got, m) {
		t.Fatalf("got %v, %v", got, err)
	}
	for bit := range len(lead) * 8 {
		lead[bit/8] ^= 1 << (bit % 8)
		// A digit in capitals is the same digit.
		if got, err := readLead(bytes.NewReader(lead)); err == nil && !proto.Equal(got, m) {
			t.Fatalf("bit %d: got %v", bit, got)
		}
		lead[bit/8] ^= 1 << (bit % 8)
	}
}

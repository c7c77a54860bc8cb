package peer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// FuzzStream changes up to four bytes of a stream of frames, or cuts it: what is
// read before that is noticed is a beginning of what was sent, beats apart.
func FuzzStream(f *testing.F) {
	var whole []byte
	var sent []*raftpb.Message
	for i := range uint64(4) {
		m := sample(i)
		var err error
		if whole, err = appendFrame(whole, 9, m); err != nil {
			f.Fatal(err)
		}
		whole = append(whole, 0, 0, 0, 0) // a beat
		sent = append(sent, m)
	}
	f.Add(uint32(0), uint32(1), uint32(0))
	f.Add(uint32(3), uint32(0xff00), uint32(0))
	f.Add(uint32(0), uint32(0), uint32(6))
	f.Fuzz(func(t *testing.T, offset, xor, cut uint32) {
		bad := bytes.Clone(whole)
		at := int(offset) % len(bad)
		for i := range min(4, len(bad)-at) {
			bad[at+i] ^= byte(xor >> (8 * i))
		}
		r := bufio.NewReader(bytes.NewReader(bad[:len(bad)-int(cut)%len(bad)]))
		for n := 0; ; {
			group, m, err := readFrame(r)
			if err != nil {
				if !errors.Is(err, errFrame) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("offset %d, bits %x: %v", offset, xor, err)
				}
				return
			}
			if m == nil {
				continue
			}
			if n == len(sent) || group != 9 || !proto.Equal(m, sent[n]) {
				t.Fatalf("offset %d, bits %x, cut by %d: message %d is %v", offset, xor, cut, n, m)
			}
			n++
		}
	})
}

// FuzzReadLead: what a snapshot's stream begins with is a snapshot message, and
// is read again from what a sender would write; what follows is not touched.
func FuzzReadLead(f *testing.F) {
	snap := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), To: proto.Uint64(2), Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(5)}}}
	f.Add(append(lead(f, snap), "MSSNAP"...))
	f.Add(lead(f, sample(1)))
	f.Add([]byte("ffffffff"))
	f.Add([]byte("0000000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		m, err := readLead(r)
		if err != nil {
			if !errors.Is(err, errFrame) {
				t.Fatalf("%q: %v", b, err)
			}
			return
		}
		again := bytes.NewReader(append(lead(t, m), b[len(b)-r.Len():]...))
		m2, err := readLead(again)
		if err != nil || m.GetType() != raftpb.MsgSnap || !proto.Equal(m, m2) || again.Len() != r.Len() {
			t.Fatalf("%v was written and %v read, %v", m, m2, err)
		}
	})
}

// lead is what a sender writes before a snapshot.
func lead(t testing.TB, m *raftpb.Message) []byte {
	t.Helper()
	b, err := appendLead(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

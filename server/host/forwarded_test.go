package host

import (
	"bytes"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/disk/memdisk"
)

// unconnected is a transport that has no connection for the first proposals.
type unconnected struct {
	nobody
	host      *Host
	refusals  int
	proposals chan *raftpb.Message
}

func (u *unconnected) Send(messages []*raftpb.Message) {
	for _, m := range messages {
		switch {
		case m.GetType() != raftpb.MsgProp:
		case u.refusals > 0:
			u.refusals--
			u.host.Unsent(m)
		default:
			u.proposals <- m
		}
	}
}

// A follower's proposal leaves when the leader can be reached, also when it could
// not be at first.
func TestForwardedProposalsWaitForAConnection(t *testing.T) {
	h := newHost(t, memdisk.New(1), 1, 1, 2)
	u := &unconnected{host: h, refusals: 3, proposals: make(chan *raftpb.Message, 10)}
	h.Start(u, nil)
	defer h.Close()
	go func() { _, _, _ = h.Propose(t.Context(), put(t, "k")) }() // it ends with the host
	lead := func() {
		h.Receive(&raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(2), Commit: proto.Uint64(0),
		})
	}
	beat := time.NewTicker(5 * time.Millisecond)
	defer beat.Stop()
	for {
		select {
		case m := <-u.proposals:
			if m.GetTo() != 2 || len(m.GetEntries()) != 1 || !bytes.Contains(m.GetEntries()[0].GetData(), []byte("k")) {
				t.Errorf("it is %v", m)
			}
			return
		case <-beat.C:
			lead()
		case <-time.After(10 * time.Second):
			t.Fatal("the proposal was lost")
		}
	}
}

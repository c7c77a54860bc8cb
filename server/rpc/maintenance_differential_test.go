package rpc

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

func (s *script) maintenance() {
	c, kv := pb.NewMaintenanceClient(s.conn), pb.NewKVClient(s.conn)
	for _, value := range []string{"1", "2", "3"} {
		if _, err := kv.Put(s.ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte(value)}); err != nil {
			s.t.Fatal(err)
		}
	}
	status := func(name string) {
		r, err := c.Status(s.ctx, &pb.StatusRequest{})
		if err != nil {
			s.t.Fatal(err)
		}
		if r.DbSize <= 0 || r.DbSizeInUse <= 0 || r.DbSizeInUse > r.DbSize || r.RaftIndex < r.RaftAppliedIndex || r.RaftAppliedIndex == 0 ||
			r.RaftTerm == 0 || r.Leader == 0 || r.Leader != r.Header.MemberId {
			s.t.Errorf("%s: %v", name, r)
		}
		r.DbSize, r.DbSizeInUse, r.RaftIndex, r.RaftAppliedIndex, r.RaftTerm, r.Leader = 0, 0, 0, 0, 0, 0
		slices.Sort(r.Errors) // etcd's are in any order
		s.step(name, r, nil)
	}
	downgrade := func(name string, action pb.DowngradeRequest_DowngradeAction, version string) {
		r, err := c.Downgrade(s.ctx, &pb.DowngradeRequest{Action: action, Version: version})
		s.step(name, r, err)
	}
	alarm := func(name string, action pb.AlarmRequest_AlarmAction, member uint64, kind pb.AlarmType) {
		r, err := c.Alarm(s.ctx, &pb.AlarmRequest{Action: action, MemberID: member, Alarm: kind})
		s.step(name, r, err)
	}
	hashKV := func(name string, rev int64) {
		r, err := c.HashKV(s.ctx, &pb.HashKVRequest{Revision: rev})
		s.step(name, r, err)
	}
	status("status")
	const validate, enable, cancel = pb.DowngradeRequest_VALIDATE, pb.DowngradeRequest_ENABLE, pb.DowngradeRequest_CANCEL
	for _, version := range []string{"", "three", "3", "3.6", "3.6.0", "3.6.9", "3.5", "3.7.0", "3.8", "4.6", "-3.6", "3.6.0-rc.1", "v3.6", "3.6.0.0"} {
		downgrade("validate "+version, validate, version)
	}
	downgrade("enable 3.5", enable, "3.5")
	downgrade("enable nonsense", enable, "x")
	downgrade("cancel nothing", cancel, "")
	downgrade("unknown action", 7, "3.6")
	downgrade("enable 3.6", enable, "3.6.4")
	status("status while it may go down")
	downgrade("cancel", cancel, "3.1")
	status("status afterwards")

	const get, on, off = pb.AlarmRequest_GET, pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE
	alarm("no alarms", get, 0, pb.AlarmType_NONE)
	alarm("raise none", on, 5, pb.AlarmType_NONE)
	alarm("raise", on, 5, pb.AlarmType_NOSPACE)
	alarm("raise again", on, 5, pb.AlarmType_NOSPACE)
	alarm("raise for no member", on, 0, pb.AlarmType_CORRUPT)
	alarm("raise an unknown one", on, 5, 9)
	status("status with alarms")
	alarm("one kind", get, 0, pb.AlarmType_NOSPACE)
	alarm("another member's", get, 77, pb.AlarmType_NOSPACE)
	_, err := kv.Put(s.ctx, &pb.PutRequest{Key: []byte("k")})
	s.step("put", nil, err)
	alarm("clear another member's", off, 6, pb.AlarmType_NOSPACE)
	alarm("clear none", off, 5, pb.AlarmType_NONE)
	alarm("clear", off, 5, pb.AlarmType_NOSPACE)
	alarm("clear again", off, 5, pb.AlarmType_NOSPACE)
	alarm("clear the corrupt", off, 0, pb.AlarmType_CORRUPT)
	alarm("clear the unknown", off, 5, 9)
	alarm("no alarms are left", get, 0, pb.AlarmType_NONE)

	hashKV("hash", 0)
	hashKV("hash of 3", 3)
	hashKV("hash of the future", 99)
	hashKV("hash of the past", -1)
	if _, err := kv.Compact(s.ctx, &pb.CompactionRequest{Revision: 3, Physical: true}); err != nil {
		s.t.Fatal(err)
	}
	hashKV("hash after a compaction", 0)
	hashKV("hash of 3 after it", 3)
	hashKV("hash of 2 after it", 2)
	hash, err := c.Hash(s.ctx, &pb.HashRequest{})
	if err != nil || hash.Hash == 0 {
		s.t.Errorf("hash: %v, %v", hash, err)
	} else {
		hash.Hash = 0 // of all that is stored, which is each server's own
	}
	s.step("hash of all", hash, err)
	defrag, err := c.Defragment(s.ctx, &pb.DefragmentRequest{})
	s.step("defragment", defrag, err)
	for _, target := range []uint64{0, 99} {
		moved, err := c.MoveLeader(s.ctx, &pb.MoveLeaderRequest{TargetID: target})
		s.step("move leader", moved, err)
	}
	st, err := c.Status(s.ctx, &pb.StatusRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	moved, err := c.MoveLeader(s.ctx, &pb.MoveLeaderRequest{TargetID: st.Leader})
	s.step("move leader to itself", moved, err)
}

// Every answer of Maintenance as a real etcd's, field by field, but for sizes,
// positions in the log and IDs.
func TestSameMaintenanceAsEtcd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	mine := serve(t, Options{}, watch.Options{})
	if _, _, err := mine.Propose(ctx, state.Command{Kind: state.KindClusterVersion, Body: []byte("3.7.0")}); err != nil {
		t.Fatal(err)
	}
	etcd := startEtcd(t)
	for { // its cluster's version is told a moment after it is ready
		r, err := pb.NewMaintenanceClient(etcd).Status(ctx, &pb.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if r.StorageVersion == "3.7.0" {
			break
		}
	}
	var texts [2][]string
	for i, conn := range []*grpc.ClientConn{etcd, dial(t, mine.addr)} {
		s := &script{t: t, ctx: ctx, conn: conn}
		s.maintenance()
		texts[i] = s.lines
	}
	for i, line := range texts[0] {
		if texts[1][i] != line {
			t.Errorf("etcd:\n%s\nMetaStore:\n%s", line, texts[1][i])
		}
	}
	all := strings.Join(texts[1], "\n")
	for _, want := range []string{"invalid downgrade target version", "wrong downgrade target version format", "3.6.0", "corrupt cluster"} {
		if !strings.Contains(all, want) {
			t.Errorf("the run never met %q", want)
		}
	}
}

package difftest

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// What brings an etcd down is refused, and the member serves on.
func TestWhatEtcdDoesNotSurvive(t *testing.T) {
	key, all := []byte("a"), []byte{0}
	keepAfterDelete := &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: all, RangeEnd: all}}},
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, IgnoreValue: true}}},
	}}
	longName := strings.Repeat("n", 32<<10+1)
	for _, engine := range engines() {
		s := startMember(t, engine, limits{})
		s.conn = dial(t, s.addr)
		play := func(method string, r proto.Message) error { return call{"", method, r}.play(t.Context(), s).err }
		if err := play(pb.KV_Put_FullMethodName, &pb.PutRequest{Key: key}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			method  string
			request proto.Message
		}{
			{pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{Action: 7}},
			{pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{Action: -1, Alarm: pb.AlarmType_CORRUPT}},
			{pb.KV_Txn_FullMethodName, keepAfterDelete},
			{pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: longName, Password: "p"}},
			{pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: longName}},
		} {
			err := play(c.method, c.request)
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %.100v: %v", engine, c.request, err)
			}
		}
		// The longest name that is taken goes into a snapshot.
		if err := play(pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: longName[1:]}); err != nil {
			t.Errorf("%s: a long name: %v", engine, err)
		}
		if err := play(pb.Maintenance_Snapshot_FullMethodName, &pb.SnapshotRequest{}); err != nil {
			t.Errorf("%s: a snapshot with a long name: %v", engine, err)
		}
		if err := play(pb.KV_Put_FullMethodName, &pb.PutRequest{Key: key}); err != nil {
			t.Errorf("%s: it serves no more: %v", engine, err)
		}
	}
}

// Names that no method has, and the health service, which has its own errors.
func TestSameAnswersToOddMethods(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd server")
	}
	sides := startSides(t, limits{})
	var steps []step
	for _, method := range []string{
		"/etcdserverpb.KV/Nothing", "/etcdserverpb.KV/", "/etcdserverpb.KV", "/etcdserverpb.kv/range", "/etcdserverpb.KV/Range/",
		"/etcdserverpb.Nothing/Range", "/KV/Range", "/", "//", "Range", "/etcdserverpb.KV/R%C3%A4nge", "/v3/kv/range", "/version",
		"/etcdserverpb.Leases/Grant", "/leasepb.Lease/Grant", "/grpc.health.v1.Health/Nothing",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.channelz.v1.Channelz/GetServers",
	} {
		steps = append(steps, oddCall{method: method})
	}
	for _, body := range []string{"", "\x0a\x00", "\x0a\x0fetcdserverpb.KV", "\x0a\x07nothing", "\x0a\x01\xff", "\xff", "\x0a"} {
		steps = append(steps, oddCall{method: "/grpc.health.v1.Health/Check", body: []byte(body)})
	}
	playAll(t, sides, steps...)
}

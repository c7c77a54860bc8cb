package bench

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func xmlDecoder(b []byte) *xml.Decoder { return xml.NewDecoder(bytes.NewReader(b)) }

// rawCodec hands messages through as bytes.
type rawCodec struct{}

func (rawCodec) Name() string                    { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = bytes.Clone(b); return nil }

// newReply makes the message that a method answers with.
func newReply(method string) proto.Message {
	switch method {
	case pb.KV_Put_FullMethodName:
		return &pb.PutResponse{}
	case pb.KV_Range_FullMethodName:
		return &pb.RangeResponse{}
	case pb.KV_RangeStream_FullMethodName:
		return &pb.RangeStreamResponse{}
	case pb.KV_DeleteRange_FullMethodName:
		return &pb.DeleteRangeResponse{}
	case pb.KV_Txn_FullMethodName:
		return &pb.TxnResponse{}
	case pb.Watch_Watch_FullMethodName:
		return &pb.WatchResponse{}
	case pb.Maintenance_Snapshot_FullMethodName:
		return &pb.SnapshotResponse{}
	case pb.Lease_LeaseGrant_FullMethodName:
		return &pb.LeaseGrantResponse{}
	case pb.Lease_LeaseKeepAlive_FullMethodName:
		return &pb.LeaseKeepAliveResponse{}
	}
	panic("no reply is known for " + method)
}

// startSpoiler is a proxy before the server that lets spoil change replies; an
// error of spoil is the reply instead.
func startSpoiler(t *testing.T, server string, spoil func(proto.Message) error) string {
	t.Helper()
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	forward := func(_ any, in grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(in)
		ctx, cancel := context.WithCancel(in.Context())
		defer cancel()
		out, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodec(rawCodec{}))
		if err != nil {
			return err
		}
		go func() {
			var b []byte
			for in.RecvMsg(&b) == nil {
				_ = out.SendMsg(&b)
			}
			_ = out.CloseSend()
		}()
		for {
			var b []byte
			if err := out.RecvMsg(&b); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			m := newReply(method)
			err := errors.Join(proto.Unmarshal(b, m), spoil(m))
			if err != nil {
				return status.Error(codes.Unavailable, err.Error())
			}
			b, err = proto.Marshal(m)
			if err := errors.Join(err, in.SendMsg(&b)); err != nil {
				return err
			}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(forward), grpc.ForceServerCodec(rawCodec{}))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done; conn.Close() })
	return l.Addr().String()
}

// spoiled are replies that a run must not take; change returns whether it
// changed the reply. One reply is changed, the last that could be on the way.
var spoiled = []struct {
	scenario, flags string
	change          func(proto.Message) bool
	want            string
}{
	{"put", "", func(m proto.Message) bool {
		r, ok := m.(*pb.PutResponse)
		if ok {
			r.Header.Revision = 1
		}
		return ok
	}, "the revision of a write did not grow"},
	{"get", "", func(m proto.Message) bool {
		r, ok := m.(*pb.RangeResponse)
		if ok {
			r.Kvs[0].Value[3]++
		}
		return ok
	}, "the value is not what was written"},
	{"get", "", func(m proto.Message) bool {
		r, ok := m.(*pb.RangeResponse)
		if ok {
			r.Count, r.Kvs = 0, nil
		}
		return ok
	}, "a key that was written is not there"},
	{"delete", "", func(m proto.Message) bool {
		r, ok := m.(*pb.DeleteRangeResponse)
		if ok {
			r.Deleted = 0
		}
		return ok
	}, "a key that was there was not deleted"},
	{"range", "--range-size=3", func(m proto.Message) bool {
		r, ok := m.(*pb.RangeResponse)
		if ok {
			r.Kvs[1], r.Kvs[2] = r.Kvs[2], r.Kvs[1]
		}
		return ok
	}, "a key of the range is not what was written"},
	{"range", "--range-size=3", func(m proto.Message) bool {
		r, ok := m.(*pb.RangeResponse)
		if ok {
			r.More = true
		}
		return ok
	}, "more keys are announced than there are, or fewer"},
	{"range", "--range-size=3 --count-only", func(m proto.Message) bool {
		r, ok := m.(*pb.RangeResponse)
		if ok {
			r.Count++
		}
		return ok
	}, "the count is not that of the keys"},
	{"range", "--range-size=3 --stream", func(m proto.Message) bool {
		r, ok := m.(*pb.RangeStreamResponse)
		ok = ok && len(r.GetRangeResponse().GetKvs()) > 0
		if ok {
			r.RangeResponse.Kvs = r.RangeResponse.Kvs[1:]
		}
		return ok
	}, "there are fewer or more keys than there should be"},
	{"txn", "", func(m proto.Message) bool {
		r, ok := m.(*pb.TxnResponse)
		if ok {
			r.Succeeded = false
		}
		return ok
	}, "a key that nobody else writes was not at its last revision"},
	{"txn-mixed", "--read-percent=100", func(m proto.Message) bool {
		r, ok := m.(*pb.TxnResponse)
		if ok {
			r.Responses[0].GetResponseRange().Kvs[0].Value = nil
		}
		return ok
	}, "the value is not what was written"},
	{"kubernetes", "", func(m proto.Message) bool {
		r, ok := m.(*pb.RangeResponse)
		ok = ok && len(r.Kvs) > 100
		if ok {
			r.Kvs = r.Kvs[:100]
		}
		return ok
	}, "there are fewer or more keys than there should be"},
	{"kubernetes", "--timeout=2s", dropEvent, "1 of "},
	{"watch", "--watchers=4 --timeout=2s", dropEvent, "1 of 1600 events did not come within"},
	{"watch", "--watchers=4", func(m proto.Message) bool {
		r, ok := m.(*pb.WatchResponse)
		ok = ok && len(r.Events) > 0
		if ok {
			r.Events = append(r.Events, r.Events[0])
		}
		return ok
	}, "an event came twice or out of order"},
	{"watch", "--watchers=4", func(m proto.Message) bool {
		r, ok := m.(*pb.WatchResponse)
		ok = ok && len(r.Events) > 0
		if ok {
			r.Events[0].Kv.Value[20]++
		}
		return ok
	}, "the value of an event is not what was written"},
	{"watch-lag", "--behind=300", func(m proto.Message) bool {
		r, ok := m.(*pb.WatchResponse)
		ok = ok && len(r.Events) > 1
		if ok {
			r.Events = r.Events[1:]
		}
		return ok
	}, "an event is missing"},
	{"snapshot", "", func(m proto.Message) bool {
		r, ok := m.(*pb.SnapshotResponse)
		ok = ok && len(r.Blob) > 0
		if ok {
			r.Blob[0]++
		}
		return ok
	}, "the sum of a snapshot is not what was written"},
	{"lease-grant", "", func(m proto.Message) bool {
		r, ok := m.(*pb.LeaseGrantResponse)
		if ok {
			r.TTL = 1
		}
		return ok
	}, "a lease lives shorter than asked"},
	{"lease-keepalive", "--leases=20", func(m proto.Message) bool {
		r, ok := m.(*pb.LeaseKeepAliveResponse)
		if ok {
			r.TTL = 0
		}
		return ok
	}, "a lease that lives was not renewed"},
	{"lease-expiry", "--leases=200 --ttl=8 --timeout=2s", dropEvent, "1 of 200 events did not come within"},
	{"lease-expiry", "--leases=200 --ttl=3", func(m proto.Message) bool {
		r, ok := m.(*pb.LeaseGrantResponse)
		if ok {
			r.TTL += 3600
		}
		return ok
	}, "a lease ended before its time"},
}

// dropEvent takes the last event of a response away.
func dropEvent(m proto.Message) bool {
	r, ok := m.(*pb.WatchResponse)
	ok = ok && len(r.Events) > 0
	if ok {
		r.Events = r.Events[:len(r.Events)-1]
	}
	return ok
}

// skipReplies is how many replies pass before one is spoiled: the slots have
// seen a revision by then.
const skipReplies = 100

func TestWrongRepliesAreNoticed(t *testing.T) {
	for _, c := range spoiled {
		t.Run(fmt.Sprint(c.scenario, c.flags, " ", c.want), func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int64
			var planted atomic.Bool
			proxy := startSpoiler(t, startMember(t), func(m proto.Message) error {
				if seen.Add(1) > skipReplies && !planted.Load() && c.change(m) {
					planted.Store(true)
				}
				return nil
			})
			flags := append([]string{"--endpoints=" + proxy, "--duration=1m", "--key-space=500", "--count=400", "--in-flight=8"}, strings.Fields(c.flags)...)
			_, err := runScenario(t, c.scenario, flags...)
			if !planted.Load() {
				t.Fatal("nothing was changed")
			}
			if err == nil || !strings.Contains(err.Error(), "wrong reply: "+c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestErrorsAreCounted(t *testing.T) {
	var seen atomic.Int64
	proxy := startSpoiler(t, startMember(t), func(proto.Message) error {
		if seen.Add(1)%10 == 0 {
			return errors.New("no more")
		}
		return nil
	})
	flags := []string{"--endpoints=" + proxy, "--count=100", "--in-flight=8"}
	p, err := runScenario(t, "put", flags...)
	if err == nil || !strings.Contains(err.Error(), "10 operations failed") || p.Total.Operations != 90 {
		t.Errorf("got %v, %+v", err, p)
	}
	if _, err := runScenario(t, "put", append(flags, "--allow-errors")...); err != nil {
		t.Errorf("with errors allowed: got %v", err)
	}
}

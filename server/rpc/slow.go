package rpc

import (
	"context"
	"log/slog"
	"path"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
)

// logSlow logs unary calls that took long, and at the level debug all of them:
// what they were, how large, and for whom, but never keys' values.
func (s *Server) logSlow(ctx context.Context, method string, req, resp any, begin time.Time, took time.Duration) {
	level := slog.LevelDebug
	if took > s.o.WarnRequestAfter {
		level = slog.LevelWarn
	}
	if !s.o.Logger.Enabled(ctx, level) {
		return
	}
	remote := ""
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	requests, requestBytes := measure(req)
	responses, responseBytes := measure(resp)
	s.o.Logger.Log(ctx, level, "request stats",
		"start time", begin, "time spent", took, "remote", remote,
		"response type", method, "request count", requests, "request size", requestBytes,
		"response count", responses, "response size", responseBytes, "request content", summary(method, req))
}

// measure counts the keys of a message, and its bytes.
func measure(m any) (count int64, sizeBytes int) {
	msg, ok := m.(proto.Message)
	if !ok || !msg.ProtoReflect().IsValid() {
		return 0, 0
	}
	switch t := m.(type) {
	case *pb.RangeResponse:
		count = t.GetCount()
	case *pb.PutRequest, *pb.DeleteRangeRequest:
		count = 1
	case *pb.DeleteRangeResponse:
		count = t.GetDeleted()
	case *pb.TxnRequest:
		count = int64(len(t.GetSuccess()) + len(t.GetFailure()))
	}
	return count, proto.Size(msg)
}

// summary names a request by its keys.
func summary(method string, req any) string {
	name := path.Base(method)
	switch t := req.(type) {
	case *pb.RangeRequest:
		return name + " key:" + quote(t.GetKey()) + " range_end:" + quote(t.GetRangeEnd())
	case *pb.PutRequest:
		return name + " key:" + quote(t.GetKey())
	case *pb.DeleteRangeRequest:
		return name + " key:" + quote(t.GetKey()) + " range_end:" + quote(t.GetRangeEnd())
	}
	return name
}

// maxLoggedKeyBytes bounds what one key adds to a line.
const maxLoggedKeyBytes = 256

func quote(key []byte) string {
	if len(key) > maxLoggedKeyBytes {
		return strconv.Quote(string(key[:maxLoggedKeyBytes])) + "..."
	}
	return strconv.Quote(string(key))
}

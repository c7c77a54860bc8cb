package rpc

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"metastore.io/metastore/server/etcdfile"
)

// maxSnapshots is how many snapshots may be made and sent at a time; each takes
// as much room on disk as the store. More wait.
const maxSnapshots = 4

// Snapshot sends the state of this member as a database of etcd's. The view is
// frozen only until its file is written, so that a slow client holds up no
// compaction.
func (s *maintenanceServer) Snapshot(r *pb.SnapshotRequest, stream grpc.ServerStreamingServer[pb.SnapshotResponse]) error {
	ctx := stream.Context()
	if err := s.allowCall(ctx, r); err != nil {
		return err
	}
	select {
	case s.snapshots <- struct{}{}:
		defer func() { <-s.snapshots }()
	case <-ctx.Done():
		return streamEnd(ctx)
	}
	defer func(begin time.Time) { s.calls.snapshot.Observe(time.Since(begin).Seconds()) }(time.Now())
	file, err := s.writeSnapshot(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return streamEnd(ctx)
		}
		return wireError(err)
	}
	defer func() {
		if err := file.Close(); err != nil {
			s.o.Logger.Warn("snapshot's file not removed", "error", err)
		}
	}()
	s.o.Logger.Info("sending snapshot to client", "bytes", file.SizeBytes())
	version := s.storageVersion()
	return file.Stream(func(chunk []byte, remaining int64) error {
		return stream.Send(&pb.SnapshotResponse{RemainingBytes: uint64(remaining), Blob: chunk, Version: version})
	})
}

func (s *maintenanceServer) writeSnapshot(ctx context.Context) (*etcdfile.Temp, error) {
	view, err := s.b.Machine().Snapshot()
	if err != nil {
		return nil, err
	}
	defer func() { _ = view.Close() }() // a frozen view holds nothing to lose
	return etcdfile.Write(ctx, s.o.SnapshotDir, view)
}

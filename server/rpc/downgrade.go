package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"metastore.io/metastore/server/state"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
)

// Downgrade lets the cluster go down by one minor version, as etcd does: the
// cluster's version follows, and snapshots become such that the older etcd takes
// them. It ends when it is cancelled, since every member of this build serves
// the same version.
func (s *maintenanceServer) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	var err error
	switch r.Action {
	case pb.DowngradeRequest_VALIDATE:
		err = s.downgradeTo(ctx, r.Version, nil)
	case pb.DowngradeRequest_ENABLE:
		err = s.downgradeTo(ctx, r.Version, s.setDowngrade)
	case pb.DowngradeRequest_CANCEL:
		s.cancelDowngrade(ctx)
	default:
		err = errUnknownMethod
	}
	if err != nil {
		return nil, err
	}
	m := s.b.Machine()
	return &pb.DowngradeResponse{Header: s.headerAt(m.KV().Rev()), Version: version.Cluster(m.ClusterVersion())}, nil
}

var errUnknownMethod = errors.New("etcdserver: unknown method")

// downgradeTo checks whether the cluster can go down to a version, and then does
// it unless it was only asked.
func (s *maintenanceServer) downgradeTo(ctx context.Context, to string, set func(context.Context, *pb.DowngradeInfo) error) error {
	target, err := minorVersion(to)
	if err != nil {
		return rpctypes.ErrGRPCWrongDowngradeVersionFormat
	}
	m, err := s.readable(ctx, false)
	if err != nil {
		return err
	}
	current, err := minorVersion(m.ClusterVersion())
	if err != nil {
		return rpctypes.ErrGRPCClusterVersionUnavailable
	}
	if !target.Equal(semver.Version{Major: current.Major, Minor: current.Minor - 1}) {
		return rpctypes.ErrGRPCInvalidDowngradeTargetVersion
	}
	if m.Downgrade() != "" {
		return rpctypes.ErrGRPCDowngradeInProcess
	}
	if set == nil {
		return nil
	}
	return set(ctx, &pb.DowngradeInfo{Enabled: true, TargetVersion: target.String()})
}

func (s *maintenanceServer) setDowngrade(ctx context.Context, d *pb.DowngradeInfo) error {
	_, err := s.propose(ctx, state.KindDowngrade, d)
	return err
}

// cancelDowngrade also succeeds where there is nothing to cancel, and tells only
// the log when it fails; so does etcd.
func (s *maintenanceServer) cancelDowngrade(ctx context.Context) {
	m, err := s.readable(ctx, false)
	if err == nil && m.Downgrade() == "" {
		err = rpctypes.ErrGRPCNoInflightDowngrade
	}
	if err == nil {
		err = s.setDowngrade(ctx, &pb.DowngradeInfo{})
	}
	if err != nil {
		s.o.Logger.Warn("downgrade not cancelled", "error", err)
	}
}

// minorVersion reads a version, with or without a patch, and cuts it off.
func minorVersion(text string) (*semver.Version, error) {
	v, err := semver.NewVersion(text)
	if err != nil {
		v, err = semver.NewVersion(text + ".0")
	}
	if err != nil {
		return nil, err
	}
	return &semver.Version{Major: v.Major, Minor: v.Minor}, nil
}

// PathDowngrade is where a member tells its peers whether the cluster may go
// down.
const PathDowngrade = "/downgrade/enabled"

// DowngradeHandler answers true or false, with all that was acknowledged before.
func (s *Server) DowngradeHandler() http.Handler {
	return get(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Etcd-Cluster-ID", strconv.FormatUint(s.b.Status().ClusterID, 16))
		if err := s.b.ReadBarrier(r.Context()); err != nil {
			http.Error(w, "failed linearized read: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, strconv.FormatBool(s.b.Machine().Downgrade() != "")) // the peer has gone
	})
}

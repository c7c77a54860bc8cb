package rpc

import (
	"context"
	"errors"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// wireErrors has, for each error of the domain, what clients get. The first
// that matches counts.
var wireErrors = []struct{ domain, wire error }{
	{state.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{state.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
	{state.ErrCorrupt, rpctypes.ErrGRPCCorrupt},
	{mvcc.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{mvcc.ErrFutureRev, rpctypes.ErrGRPCFutureRev},

	{auth.ErrRootUserNotExist, rpctypes.ErrGRPCRootUserNotExist},
	{auth.ErrRootRoleNotExist, rpctypes.ErrGRPCRootRoleNotExist},
	{auth.ErrUserAlreadyExist, rpctypes.ErrGRPCUserAlreadyExist},
	{auth.ErrUserEmpty, rpctypes.ErrGRPCUserEmpty},
	{auth.ErrUserNotFound, rpctypes.ErrGRPCUserNotFound},
	{auth.ErrRoleAlreadyExist, rpctypes.ErrGRPCRoleAlreadyExist},
	{auth.ErrRoleNotFound, rpctypes.ErrGRPCRoleNotFound},
	{auth.ErrRoleEmpty, rpctypes.ErrGRPCRoleEmpty},
	{auth.ErrAuthFailed, rpctypes.ErrGRPCAuthFailed},
	{auth.ErrPermissionNotGiven, rpctypes.ErrGRPCPermissionNotGiven},
	{auth.ErrPermissionDenied, rpctypes.ErrGRPCPermissionDenied},
	{auth.ErrRoleNotGranted, rpctypes.ErrGRPCRoleNotGranted},
	{auth.ErrPermissionNotGranted, rpctypes.ErrGRPCPermissionNotGranted},
	{auth.ErrNotEnabled, rpctypes.ErrGRPCAuthNotEnabled},
	{auth.ErrInvalidToken, rpctypes.ErrGRPCInvalidAuthToken},
	{auth.ErrInvalidMgmt, rpctypes.ErrGRPCInvalidAuthMgmt},
	{auth.ErrOldRevision, rpctypes.ErrGRPCAuthOldRevision},

	{lease.ErrNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{lease.ErrExists, rpctypes.ErrGRPCLeaseExist},
	{lease.ErrTTLTooLarge, rpctypes.ErrGRPCLeaseTTLTooLarge},
	{lease.ErrNotPrimary, rpctypes.ErrGRPCLeaderChanged},

	{state.ErrIDExists, rpctypes.ErrGRPCMemberExist},
	{state.ErrIDRemoved, rpctypes.ErrGRPCMemberNotFound},
	{state.ErrMemberNotFound, rpctypes.ErrGRPCMemberNotFound},
	{state.ErrPeerURLExists, rpctypes.ErrGRPCPeerURLExist},
	{state.ErrNotLearner, rpctypes.ErrGRPCMemberNotLearner},
	{state.ErrTooManyLearners, rpctypes.ErrGRPCTooManyLearners},
	{state.ErrLastVoter, rpctypes.ErrGRPCMemberNotEnoughStarted},
	{replica.ErrNotEnoughStarted, rpctypes.ErrGRPCMemberNotEnoughStarted},
	{replica.ErrLearnerNotReady, rpctypes.ErrGRPCLearnerNotReady},
	{replica.ErrUnhealthy, rpctypes.ErrGRPCUnhealthy},
	{replica.ErrBadTransferee, rpctypes.ErrGRPCBadLeaderTransferee},
	{replica.ErrTransferTimeout, status.Error(codes.Unknown, "etcdserver: request timed out, leader transfer took too long")},

	{replica.ErrTooManyRequests, rpctypes.ErrGRPCRequestTooManyRequests},
	{replica.ErrStopped, rpctypes.ErrGRPCStopped},
	{replica.ErrTimeout, rpctypes.ErrGRPCTimeout},
	{replica.ErrNoLeader, rpctypes.ErrGRPCNoLeader},
}

// wireError translates an error of the domain into the one that clients know.
func wireError(err error) error {
	var wire interface{ GRPCStatus() *status.Status }
	switch {
	case errors.As(err, &wire):
		return wire.GRPCStatus().Err()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, replica.ErrTimeout) && errors.Is(err, replica.ErrNoLeader):
		return rpctypes.ErrGRPCTimeoutDueToLeaderFail
	case errors.Is(err, state.ErrMalformed):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	for _, e := range wireErrors {
		if errors.Is(err, e.domain) {
			return e.wire
		}
	}
	return status.Error(codes.Unknown, err.Error())
}

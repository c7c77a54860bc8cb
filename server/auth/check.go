package auth

import (
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Identity is who makes a request. The zero value is nobody.
type Identity struct {
	User string
	// Revision is that of users and roles when the caller was identified.
	Revision uint64
}

// LeaseKeys gives the keys that are attached to a lease.
type LeaseKeys func(id int64) [][]byte

// permit says whether a caller may do something with a range. Permissions that
// changed since the caller was identified are not judged: ErrOldRevision.
func (s *State) permit(by Identity, key, end []byte, need authpb.Permission_Type) error {
	switch {
	case !s.enabled:
		return nil
	case by.Revision == 0:
		return ErrUserEmpty
	case by.Revision < s.revision:
		return ErrOldRevision
	}
	u, ok := s.users[by.User]
	if !ok {
		return ErrPermissionDenied
	}
	if hasRole(u, rootRole) || s.allowed[by.User].of(need).cover(spanOf(key, end)) {
		return nil
	}
	return ErrPermissionDenied
}

// CheckRead says whether a caller may read a whole range.
func (s *State) CheckRead(by Identity, key, end []byte) error {
	return s.permit(by, key, end, authpb.Permission_READ)
}

func (s *State) checkWrite(by Identity, key, end []byte) error {
	return s.permit(by, key, end, authpb.Permission_WRITE)
}

// CheckAdmin says whether a caller may do what only users with the root role
// may.
func (s *State) CheckAdmin(by Identity) error {
	if !s.enabled {
		return nil
	}
	if by.User == "" {
		return ErrUserEmpty
	}
	u, ok := s.users[by.User]
	if !ok {
		return ErrUserNotFound
	}
	if !hasRole(u, rootRole) {
		return ErrPermissionDenied
	}
	return nil
}

// CheckKnown refuses nobody.
func (s *State) CheckKnown(by Identity) error {
	if s.enabled && by == (Identity{}) {
		return ErrUserEmpty
	}
	return nil
}

// CheckFresh says whether what was read for a caller may be given out: not when
// users or roles changed meanwhile.
func (s *State) CheckFresh(by Identity) error {
	if by.Revision != 0 && by.Revision != s.revision {
		return ErrOldRevision
	}
	return nil
}

// CheckPut also wants the right to write every key of the lease: who attaches a
// key must be able to revoke it.
func (s *State) CheckPut(by Identity, r *pb.PutRequest, keys LeaseKeys) error {
	if err := s.checkWrite(by, r.Key, nil); err != nil {
		return err
	}
	if err := s.CheckLeaseWrite(by, r.Lease, keys); err != nil {
		return err
	}
	if r.PrevKv {
		return s.CheckRead(by, r.Key, nil)
	}
	return nil
}

// CheckDelete wants the right to read, too, where the deleted pairs are wanted.
func (s *State) CheckDelete(by Identity, r *pb.DeleteRangeRequest) error {
	if err := s.checkWrite(by, r.Key, r.RangeEnd); err != nil {
		return err
	}
	if r.PrevKv {
		return s.CheckRead(by, r.Key, r.RangeEnd)
	}
	return nil
}

// CheckLeaseWrite says whether a caller may write every key of a lease, and so
// revoke or renew it.
func (s *State) CheckLeaseWrite(by Identity, id int64, keys LeaseKeys) error {
	return s.checkLease(by, id, keys, authpb.Permission_WRITE)
}

// CheckLeaseRead says whether a caller may know the keys of a lease.
func (s *State) CheckLeaseRead(by Identity, id int64, keys LeaseKeys) error {
	return s.checkLease(by, id, keys, authpb.Permission_READ)
}

func (s *State) checkLease(by Identity, id int64, keys LeaseKeys, need authpb.Permission_Type) error {
	if id == 0 || s.CheckAdmin(by) == nil {
		return nil
	}
	for _, key := range keys(id) {
		if err := s.permit(by, key, nil, need); err != nil {
			return err
		}
	}
	return nil
}

// CheckTxn checks every compare and every request of both branches, whichever
// will be taken, also of nested transactions.
func (s *State) CheckTxn(by Identity, t *pb.TxnRequest, keys LeaseKeys) error {
	if !s.enabled {
		return nil
	}
	for _, c := range t.Compare {
		if err := s.CheckRead(by, c.Key, c.RangeEnd); err != nil {
			return err
		}
	}
	for _, ops := range [][]*pb.RequestOp{t.Success, t.Failure} {
		for _, op := range ops {
			if err := s.checkOp(by, op, keys); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *State) checkOp(by Identity, op *pb.RequestOp, keys LeaseKeys) error {
	switch o := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return s.CheckRead(by, o.RequestRange.GetKey(), o.RequestRange.GetRangeEnd())
	case *pb.RequestOp_RequestPut:
		return s.CheckPut(by, o.RequestPut, keys)
	case *pb.RequestOp_RequestDeleteRange:
		return s.CheckDelete(by, o.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return s.CheckTxn(by, o.RequestTxn, keys)
	}
	return nil
}

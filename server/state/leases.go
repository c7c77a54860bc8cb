package state

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/lease"
)

func (a *applier) leaseGrant(body []byte) (proto.Message, error) {
	r := &pb.LeaseGrantRequest{}
	if err := decode(body, r); err != nil {
		return nil, err
	}
	if err := a.checkAlarms(true); err != nil {
		return nil, err
	}
	id := lease.ID(r.ID)
	if err := a.leases.Grant(a.batch, id, r.TTL); err != nil {
		return nil, err
	}
	granted, _ := a.leases.Lookup(id)
	return &pb.LeaseGrantResponse{Header: a.header(), ID: r.ID, TTL: granted.TTLSeconds}, nil
}

func (a *applier) leaseRevoke(body []byte) (proto.Message, error) {
	r := &pb.LeaseRevokeRequest{}
	if err := decode(body, r); err != nil {
		return nil, err
	}
	if err := a.checkAlarms(false); err != nil {
		return nil, err
	}
	if err := a.auth.CheckLeaseWrite(a.by, r.ID, a.leaseKeys); err != nil {
		return nil, err
	}
	if err := a.revoke(lease.ID(r.ID)); err != nil {
		return nil, err
	}
	return &pb.LeaseRevokeResponse{Header: a.header()}, nil
}

// leaseKeys are the keys of a lease, for the checks of permissions.
func (a *applier) leaseKeys(id int64) [][]byte { return a.leases.Keys(lease.ID(id)) }

// leaseExpire revokes many leases, one revision each. One that is gone already,
// because it was revoked meanwhile or proposed twice, is passed over; all are
// where the entry is not of the term whose leader saw them expire.
func (a *applier) leaseExpire(body []byte) (proto.Message, error) {
	term, ids, err := decodeLeaseExpire(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := a.checkAlarms(false); err != nil {
		return nil, err
	}
	if term != a.term {
		ids = nil
	}
	for _, id := range ids {
		if err := a.revoke(id); err != nil && !errors.Is(err, lease.ErrNotFound) {
			return nil, err
		}
	}
	return &pb.LeaseRevokeResponse{Header: a.header()}, nil
}

// revoke removes a lease and deletes its keys in one revision, in sorted order:
// every member stages the same rows.
func (a *applier) revoke(id lease.ID) error {
	keys, err := a.leases.Revoke(a.batch, id)
	if err != nil {
		return err
	}
	c := a.begin()
	for _, key := range keys {
		c.delete(key, nil)
	}
	c.end()
	return nil
}

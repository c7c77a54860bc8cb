package node

import (
	"errors"

	"go.etcd.io/etcd/pkg/v3/featuregate"
)

// etcd's feature gates. All are taken; what each does here is told beside it.
const (
	// StopGRPCServiceOnDefrag: the gRPC health service says NOT_SERVING while a
	// Defragment runs.
	StopGRPCServiceOnDefrag featuregate.Feature = "StopGRPCServiceOnDefrag"
	// SetMemberLocalAddr: connections to peers come from the address that
	// --initial-advertise-peer-urls names.
	SetMemberLocalAddr featuregate.Feature = "SetMemberLocalAddr"
	// InitialCorruptCheck: a member compares its data with its peers' before it
	// serves.
	InitialCorruptCheck featuregate.Feature = "InitialCorruptCheck"
	// CompactHashCheck: the leader compares the members' compacted data.
	CompactHashCheck featuregate.Feature = "CompactHashCheck"
	// Without effect: what is left of a lease outlives its leader always.
	leaseCheckpoint        featuregate.Feature = "LeaseCheckpoint"
	leaseCheckpointPersist featuregate.Feature = "LeaseCheckpointPersist"
	// Without effect: reads of a transaction always see its writes in place.
	txnSharedBuffer featuregate.Feature = "TxnModeWriteWithSharedBuffer"
	// Without effect: keep-alives never wait for the log.
	fastLeaseKeepAlive featuregate.Feature = "FastLeaseKeepAlive"
	// Without effect: expiries are one entry however many there are.
	priorityRequest featuregate.Feature = "PriorityRequest"
)

// newFeatures has etcd's gates with etcd's defaults.
func newFeatures() featuregate.MutableFeatureGate {
	alpha := featuregate.FeatureSpec{Default: false, PreRelease: featuregate.Alpha}
	beta := featuregate.FeatureSpec{Default: true, PreRelease: featuregate.Beta}
	g := featuregate.New("metastore", nil)
	err := g.Add(map[featuregate.Feature]featuregate.FeatureSpec{
		StopGRPCServiceOnDefrag: alpha,
		SetMemberLocalAddr:      alpha,
		InitialCorruptCheck:     alpha,
		CompactHashCheck:        alpha,
		leaseCheckpoint:         alpha,
		leaseCheckpointPersist:  alpha,
		txnSharedBuffer:         beta,
		fastLeaseKeepAlive:      beta,
		priorityRequest:         alpha,
	})
	if err != nil {
		panic(err) // a gate is in the list twice
	}
	return g
}

func (c *Config) validateFeatures() error {
	if c.Features.Enabled(leaseCheckpointPersist) && !c.Features.Enabled(leaseCheckpoint) {
		return errors.New("--feature-gates=LeaseCheckpointPersist=true is not valid: it requires LeaseCheckpoint=true, too")
	}
	return nil
}

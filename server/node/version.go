package node

import (
	"context"
	"fmt"
	"time"

	"metastore.io/metastore/server/state"
)

// clusterVersion is what a cluster of members of this version serves. There is
// no older version of MetaStore whose members would have to be asked for theirs.
const clusterVersion = "3.7.0"

// versionInterval is how often the leader looks at the cluster's version.
const versionInterval = time.Second

// runVersion keeps the cluster at the version that it should have, while this
// member leads: down by an allowed downgrade, and up again when that is
// cancelled.
func (n *Node) runVersion(ctx context.Context) {
	tick := time.NewTicker(versionInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.host.Done():
			return
		case <-tick.C:
		}
		m := n.host.Machine()
		from, to := m.ClusterVersion(), wantedVersion(m)
		if from == "" || from == to || !n.host.Status().IsLeader() {
			continue // a new cluster's version is published with its first member
		}
		if err := n.setVersion(ctx, to); err != nil {
			n.c.Logger.Warn("cluster version not changed yet", "from", from, "to", to, "error", err)
			continue
		}
		n.c.Logger.Info("updated cluster version", "from", from, "to", to)
	}
}

func wantedVersion(m *state.Machine) string {
	if target := m.Downgrade(); target != "" {
		return target
	}
	return clusterVersion
}

func (n *Node) setVersion(ctx context.Context, v string) error {
	r, _, err := n.host.Propose(ctx, state.Command{Kind: state.KindClusterVersion, Body: []byte(v)})
	if err == nil {
		err = r.Err
	}
	if err != nil {
		return fmt.Errorf("set the cluster version: %w", err)
	}
	return nil
}

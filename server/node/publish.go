package node

import (
	"context"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/state"
)

const publishRetry = 100 * time.Millisecond

// publish tells the cluster this member's name and client URLs, and a new
// cluster its version; again and again until it is applied.
func (n *Node) publish(ctx context.Context) {
	for !n.published() {
		if err := n.proposeSelf(ctx); err != nil {
			n.c.Logger.Debug("not published yet", "error", err)
		}
		if n.published() {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-n.host.Done():
			return
		case <-time.After(publishRetry):
		}
	}
	n.c.Logger.Info("published", "name", n.c.Name, "client-urls", urlStrings(n.c.AdvertiseClientURLs))
	close(n.ready)
	n.c.Logger.Info("ready to serve client requests")
}

func (n *Node) published() bool {
	m := n.host.Machine()
	self, ok := m.Member(n.host.Status().ID)
	return ok && self.Name == n.c.Name && slices.Equal(self.ClientURLs, urlStrings(n.c.AdvertiseClientURLs)) && m.ClusterVersion() != ""
}

func (n *Node) proposeSelf(ctx context.Context) error {
	body, err := proto.Marshal(&pb.Member{
		ID: n.host.Status().ID, Name: n.c.Name, ClientURLs: urlStrings(n.c.AdvertiseClientURLs),
	})
	if err != nil {
		return err
	}
	if _, _, err := n.host.Propose(ctx, state.Command{Kind: state.KindMemberPublish, Body: body}); err != nil {
		return err
	}
	if n.host.Machine().ClusterVersion() == "" {
		return n.setVersion(ctx, wantedVersion(n.host.Machine()))
	}
	return nil
}

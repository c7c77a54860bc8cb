package node

import (
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/peer"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/state"
)

const (
	// joinTimeout is how long a joining member asks for its place.
	joinTimeout = 20 * time.Second
	joinRetry   = 300 * time.Millisecond
	// probeTimeout bounds the question whether a new cluster is there already.
	probeTimeout = 2 * time.Second
)

// identity is what a first start finds out.
type identity struct {
	clusterID, memberID uint64
	// members are the first members of a new cluster; nil for a joiner, which
	// gets its state from the leader.
	members []state.Member
}

// memberID is etcd's: the first eight bytes of a SHA-1 over the sorted peer URLs
// and the cluster's token.
func memberID(peerURLs []string, token string) uint64 {
	urls := slices.Clone(peerURLs)
	slices.Sort(urls)
	sum := sha1.Sum([]byte(strings.Join(urls, "") + token))
	return binary.BigEndian.Uint64(sum[:8])
}

// clusterID is etcd's: the first eight bytes of a SHA-1 over the sorted IDs of
// the first members.
func clusterID(ids []uint64) uint64 {
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	var b []byte
	for _, id := range sorted {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	sum := sha1.Sum(b)
	return binary.BigEndian.Uint64(sum[:8])
}

// identify finds this member's place in the cluster, on its first start.
func identify(ctx context.Context, c *Config, peerTLS peer.TLS) (identity, error) {
	if err := c.discover(ctx); err != nil {
		return identity{}, err
	}
	initial, others, err := c.initialPeers(ctx)
	if err != nil {
		return identity{}, err
	}
	if c.InitialClusterState == "existing" {
		return join(ctx, c, peerTLS, others)
	}
	id := newCluster(c, initial)
	for i := range id.members {
		id.members[i].Name = "" // until it is published: it has not started
	}
	if len(others) == 0 {
		return id, nil
	}
	return id, checkNew(ctx, c, peerTLS, others, id)
}

// initialPeers are the first members' peer URLs by name, and those of the others
// in one list.
func (c *Config) initialPeers(ctx context.Context) (initial map[string][]string, others []string, err error) {
	initial, err = c.initialMembers()
	if err == nil {
		err = c.checkOwn(ctx, initial[c.Name])
	}
	if err != nil {
		return nil, nil, &ExitError{Code: ExitUsage, Err: err}
	}
	for name, urls := range initial {
		if name != c.Name {
			others = append(others, urls...)
		}
	}
	slices.Sort(others)
	return initial, others, nil
}

func newCluster(c *Config, initial map[string][]string) identity {
	var id identity
	var ids []uint64
	for name, urls := range initial {
		m := state.Member{ID: memberID(urls, c.token()), PeerURLs: urls, Name: name}
		if name == c.Name {
			id.memberID = m.ID
		}
		ids = append(ids, m.ID)
		id.members = append(id.members, m)
	}
	slices.SortFunc(id.members, func(a, b state.Member) int { return strings.Compare(a.PeerURLs[0], b.PeerURLs[0]) })
	id.clusterID = clusterID(ids)
	return id
}

// checkNew refuses to begin a cluster anew that is running already and knows
// this member as started: its data is gone, and an empty member under an old
// identity would forget its votes.
func checkNew(ctx context.Context, c *Config, peerTLS peer.TLS, others []string, id identity) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	info, err := peer.FetchCluster(ctx, peerTLS, others)
	if err != nil {
		return nil // nobody is up yet, as is usual for a new cluster
	}
	if info.ClusterID != strconv.FormatUint(id.clusterID, 16) {
		return nil // the peers' own check refuses whatever does not belong
	}
	for _, m := range info.Members {
		if m.ID == strconv.FormatUint(id.memberID, 16) && m.Name != "" {
			return lostData(c, m.ID)
		}
	}
	return nil
}

func lostData(c *Config, member string) error {
	return exitf(ExitEmpty, "the data dir %s is empty, but member %s has started before and its data is gone; remove the member from the cluster and add it anew", c.DataDir, member)
}

// join asks the members for this member's ID: it was added to the cluster
// before, and is found by its peer URLs.
func join(ctx context.Context, c *Config, peerTLS peer.TLS, others []string) (identity, error) {
	if len(others) == 0 {
		return identity{}, &ExitError{Code: ExitUsage, Err: refuse("initial-cluster", c.InitialCluster, "at least one other member, for --initial-cluster-state=existing,")}
	}
	var id identity
	err := askCluster(ctx, c, peerTLS, others, func(info peer.ClusterInfo) (err error) {
		id, err = findSelf(c, info)
		return err
	})
	return id, err
}

// askCluster asks the other members until use takes what they tell; an
// ExitError of use is final.
func askCluster(ctx context.Context, c *Config, peerTLS peer.TLS, others []string, use func(peer.ClusterInfo) error) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	for {
		info, err := peer.FetchCluster(ctx, peerTLS, others)
		if err == nil {
			err = use(info)
		}
		var exit *ExitError
		if err == nil || errors.As(err, &exit) {
			return err
		}
		c.Logger.Info("waiting to join the cluster", "reason", err.Error())
		select {
		case <-time.After(joinRetry):
		case <-ctx.Done():
			return fmt.Errorf("join the cluster: %w", err)
		}
	}
}

// contacts are the other members' peer URLs by ID. A joiner without state needs
// them to answer the leader; later the state itself tells them.
func (n *Node) contacts(ctx context.Context, peerTLS peer.TLS) (map[uint64][]string, error) {
	_, others, err := n.c.initialPeers(ctx)
	if err != nil {
		return nil, err
	}
	urls := map[uint64][]string{}
	err = askCluster(ctx, n.c, peerTLS, others, func(info peer.ClusterInfo) error {
		if info.ClusterID != n.dir.marker.ClusterID {
			return exitf(ExitForeign, "the data dir %s belongs to cluster %s, the members of --initial-cluster to %s", n.c.DataDir, n.dir.marker.ClusterID, info.ClusterID)
		}
		for _, m := range info.Members {
			id, err := strconv.ParseUint(m.ID, 16, 64)
			if err != nil {
				return fmt.Errorf("the cluster answers with the ID %q", m.ID)
			}
			urls[id] = m.PeerURLs
		}
		return nil
	})
	return urls, err
}

func findSelf(c *Config, info peer.ClusterInfo) (identity, error) {
	own := urlStrings(c.AdvertisePeerURLs)
	slices.Sort(own)
	for _, m := range info.Members {
		urls := slices.Clone(m.PeerURLs)
		slices.Sort(urls)
		if !slices.Equal(urls, own) {
			continue
		}
		if m.Name != "" {
			return identity{}, lostData(c, m.ID)
		}
		cluster, err1 := strconv.ParseUint(info.ClusterID, 16, 64)
		member, err2 := strconv.ParseUint(m.ID, 16, 64)
		if err1 != nil || err2 != nil {
			return identity{}, fmt.Errorf("the cluster answers with the IDs %q and %q", info.ClusterID, m.ID)
		}
		return identity{clusterID: cluster, memberID: member}, nil
	}
	return identity{}, fmt.Errorf("no member of cluster %s has the peer URLs %s; add it first", info.ClusterID, strings.Join(own, ","))
}

// firstStart writes the first state. The marker says Ready only after that, so
// that a start that is cut off is made anew.
func (n *Node) firstStart(ctx context.Context, peerTLS peer.TLS) error {
	d := n.dir
	if d.marker != nil {
		if err := d.clear(); err != nil {
			return err
		}
	}
	id, err := identify(ctx, n.c, peerTLS)
	if err != nil {
		return err
	}
	m := marker{
		Format: markerFormat, Engine: n.c.StorageEngine, Token: n.c.token(),
		ClusterID: strconv.FormatUint(id.clusterID, 16), MemberID: strconv.FormatUint(id.memberID, 16),
	}
	if err := d.writeMarker(m); err != nil {
		return err
	}
	if err := n.openStorage(); err != nil {
		return err
	}
	if id.members != nil {
		if err := n.bootstrap(id); err != nil {
			return err
		}
	}
	m.Ready = true
	return d.writeMarker(m)
}

// bootstrap writes the state that all first members begin with: applied index 1
// of term 1, which holds the members.
func (n *Node) bootstrap(id identity) error {
	if err := n.machine.Bootstrap(id.clusterID, id.members); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	index, term := n.machine.Applied()
	err := n.log.Append([]raftlog.Write{{
		Group:     group,
		Reset:     &raftlog.Position{Index: index, Term: term},
		HardState: &raftpb.HardState{Term: &term, Commit: &index},
	}})
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

func (n *Node) path(name string) string { return path.Join(n.c.DataDir, name) }

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/host"
	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/peer"
	"metastore.io/metastore/server/state"
)

// unknownMember stands for the whole cluster in an alarm: the members' data
// differ, and no majority of them agrees on what is right.
const unknownMember = 0

// corruption compares the members' data, as etcd does (etcdserver/corrupt.go of
// v3.7): at the start with that of the peers, and from time to time on the
// leader, which raises the CORRUPT alarm. No check holds up reads or writes, and
// one runs at a time.
type corruption struct {
	self  uint64
	group comparison
	log   *slog.Logger
	// checked is the newest compaction of which all members had the same hash.
	checked int64
}

// comparison is the group whose members' data are compared. Its methods limit
// their own time.
type comparison interface {
	KeysHash(rev int64) (host.KeysHash, error)
	// PeerHashes are all other members' at a revision.
	PeerHashes(ctx context.Context, rev int64) []host.PeerHash
	// CompactionHashes are this member's, the newest first.
	CompactionHashes() []mvcc.Hash
	// ReadBarrier returns when everything is applied here that was committed
	// anywhere before.
	ReadBarrier(ctx context.Context) error
	// RaiseCorrupt has the alarm of a member committed, unless it is on.
	RaiseCorrupt(ctx context.Context, member uint64) error
}

// initial compares before this member works: it must not serve, vote or lead
// with data that the others do not have. Peers that do not answer, or that were
// compacted to another revision, tell nothing.
func (c *corruption) initial(ctx context.Context) error {
	own, err := c.group.KeysHash(0)
	if err != nil {
		return err
	}
	peers := c.group.PeerHashes(ctx, own.Hashed)
	agree, differ := []uint64{c.self}, []host.PeerHash(nil)
	for _, p := range peers {
		switch {
		case p.Err != nil:
			c.log.Warn("initial corruption check: no hash of a peer", "peer", fmt.Sprintf("%x", p.ID), "revision", own.Hashed, "error", p.Err)
		case p.CompactRevision != own.CompactRevision:
			c.log.Warn("initial corruption check: a peer is compacted to another revision", "peer", fmt.Sprintf("%x", p.ID),
				"compact-revision", own.CompactRevision, "peer-compact-revision", p.CompactRevision)
		case p.Hash == own.Hash:
			agree = append(agree, p.ID)
		default:
			differ = append(differ, p)
			c.log.Error("initial corruption check: other data than a peer", "peer", fmt.Sprintf("%x", p.ID), "revision", own.Hashed,
				"compact-revision", own.CompactRevision, "hash", hashText(own.Hash), "peer-hash", hashText(p.Hash))
		}
	}
	quorum := (len(peers)+1)/2 + 1
	if len(differ) == 0 || len(agree) >= quorum {
		c.log.Info("initial corruption check passed", "revision", own.Hashed, "peers-compared", len(agree)-1+len(differ))
		return nil
	}
	return c.refuseStart(own, differ, quorum)
}

func (c *corruption) refuseStart(own host.KeysHash, differ []host.PeerHash, quorum int) error {
	same := 0
	var ids []string
	for _, p := range differ {
		ids = append(ids, fmt.Sprintf("%x", p.ID))
		if p.Hash == differ[0].Hash {
			same++
		}
	}
	what := fmt.Sprintf("the data of this member, %x, differ from that of %v at revision %d (hash %s, theirs %s)",
		c.self, ids, own.Hashed, hashText(own.Hash), hashText(differ[0].Hash))
	if same >= quorum {
		return exitf(ExitCorrupt, "%s, who are a majority; this member must not serve: replace it", what)
	}
	return fmt.Errorf("%s, and no majority tells who is right; start the other members first, or find out which data are right and replace the other members", what)
}

// periodic compares the newest data, on the leader.
func (c *corruption) periodic(ctx context.Context) error {
	own, err := c.group.KeysHash(0)
	if err != nil {
		return err
	}
	peers := c.group.PeerHashes(ctx, own.Hashed)
	// What a peer had applied when it answered, the leader has applied then.
	if err := c.group.ReadBarrier(ctx); err != nil {
		return err
	}
	again, err := c.group.KeysHash(0)
	if err != nil {
		return err
	}
	if again.Hashed == own.Hashed && again.CompactRevision == own.CompactRevision && again.Hash != own.Hash {
		return c.raise(ctx, []uint64{c.self}, "the same rows gave two hashes", own)
	}
	hashes := map[uint64]uint32{c.self: own.Hash}
	var ahead []uint64
	for _, p := range peers {
		switch {
		case p.Err != nil:
			c.log.Warn("corruption check: no hash of a peer", "peer", fmt.Sprintf("%x", p.ID), "revision", own.Hashed, "error", p.Err)
		case p.Revision > again.Revision || p.CompactRevision > again.CompactRevision:
			ahead = append(ahead, p.ID)
		case p.CompactRevision == own.CompactRevision:
			hashes[p.ID] = p.Hash
		}
	}
	if err := c.raise(ctx, ahead, "it is ahead of its leader", own); err != nil {
		return err
	}
	c.log.Debug("corruption check", "revision", own.Hashed, "members-compared", len(hashes))
	return c.raise(ctx, oddOnes(len(peers)+1, hashes), "its data differ", own)
}

// compacted compares what the members had before their last compactions, on the
// leader: these rows cannot change any more.
func (c *corruption) compacted(ctx context.Context) error {
	for _, own := range c.group.CompactionHashes() {
		if own.Rev <= c.checked {
			return nil
		}
		peers := c.group.PeerHashes(ctx, own.Rev)
		hashes := map[uint64]uint32{c.self: own.Sum}
		for _, p := range peers {
			if p.Err == nil && p.CompactRevision == own.CompactRev {
				hashes[p.ID] = p.Hash
			}
		}
		if odd := oddOnes(len(peers)+1, hashes); len(odd) > 0 {
			return c.raise(ctx, odd, "its compacted data differ",
				host.KeysHash{Hashed: own.Rev, CompactRevision: own.CompactRev, Hash: own.Sum})
		}
		if len(hashes) == len(peers)+1 {
			c.checked = own.Rev
			c.log.Debug("compaction hash check", "revision", own.Rev, "members-compared", len(hashes))
			return nil
		}
		// Somebody has not compacted so far, or is new: an older one may tell.
	}
	return nil
}

// oddOnes names the members whose hash is not that of a majority of all members,
// in order; unknownMember where hashes differ and there is no such majority.
func oddOnes(members int, hashes map[uint64]uint32) (odd []uint64) {
	count := map[uint32]int{}
	for _, h := range hashes {
		count[h]++
	}
	if len(count) < 2 {
		return nil
	}
	for id, h := range hashes {
		if count[h] < members/2+1 {
			odd = append(odd, id)
		}
	}
	if len(odd) == len(hashes) {
		return []uint64{unknownMember}
	}
	slices.Sort(odd)
	return odd
}

// raise raises the alarm for each of the members.
func (c *corruption) raise(ctx context.Context, members []uint64, why string, own host.KeysHash) error {
	var errs []error
	for _, id := range members {
		if id == unknownMember {
			why = "the members' data differ, and no majority of them agrees"
		}
		c.log.Error("corrupt data found", "member", fmt.Sprintf("%x", id), "reason", why,
			"revision", own.Hashed, "compact-revision", own.CompactRevision, "leader-hash", hashText(own.Hash))
		errs = append(errs, c.group.RaiseCorrupt(ctx, id))
	}
	return errors.Join(errs...)
}

func hashText(h uint32) string { return fmt.Sprintf("%08x", h) }

// members is the group as a member sees it.
type members struct {
	*host.Host
	peers *peer.Transport
}

func (m members) PeerHashes(ctx context.Context, rev int64) []host.PeerHash {
	return m.Host.PeerHashes(ctx, m.peers, rev)
}

func (m members) CompactionHashes() []mvcc.Hash { return m.Machine().KV().CompactionHashes() }

func (m members) RaiseCorrupt(ctx context.Context, member uint64) error {
	for _, a := range m.Machine().Alarms() {
		if a.Alarm == pb.AlarmType_CORRUPT && a.MemberID == member {
			return nil
		}
	}
	body, err := proto.Marshal(&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: pb.AlarmType_CORRUPT})
	if err != nil {
		return err
	}
	r, _, err := m.Propose(ctx, state.Command{Kind: state.KindAlarm, Body: body})
	if err = errors.Join(err, r.Err); err != nil {
		return fmt.Errorf("raise the CORRUPT alarm of member %x: %w", member, err)
	}
	return nil
}

func (n *Node) newCorruption() *corruption {
	return &corruption{self: n.host.Status().ID, group: members{n.host, n.peers}, log: n.c.Logger}
}

// checkInitial compares with the peers before this member works, where that is
// wanted and it has data.
func (n *Node) checkInitial(ctx context.Context) error {
	if index, _ := n.machine.Applied(); index == 0 || n.dir.marker.Starts < 2 || !n.c.Features.Enabled(InitialCorruptCheck) {
		return nil
	}
	urls := map[uint64][]string{}
	for _, m := range n.machine.Members() {
		urls[m.ID] = m.PeerURLs
	}
	n.peers.SetPeers(urls)
	return n.newCorruption().initial(ctx)
}

// runCorruption checks from time to time, while this member leads.
func (n *Node) runCorruption(ctx context.Context) {
	var periodic, compacted <-chan time.Time
	if n.c.CorruptCheckTime > 0 {
		tick := time.NewTicker(n.c.CorruptCheckTime)
		defer tick.Stop()
		periodic = tick.C
	}
	if n.c.Features.Enabled(CompactHashCheck) {
		tick := time.NewTicker(n.c.CompactHashCheckTime)
		defer tick.Stop()
		compacted = tick.C
	}
	c := n.newCorruption()
	for {
		check := c.periodic
		select {
		case <-ctx.Done():
			return
		case <-n.host.Done():
			return
		case <-periodic:
		case <-compacted:
			check = c.compacted
		}
		if !n.host.Status().IsLeader() {
			continue
		}
		if err := check(ctx); err != nil && ctx.Err() == nil {
			n.c.Logger.Warn("corruption check failed; it is tried again", "error", err)
		}
	}
}

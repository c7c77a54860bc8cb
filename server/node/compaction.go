package node

import (
	"context"
	"errors"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/state"
)

// revisionInterval is how often the mode "revision" compacts, as etcd does.
const revisionInterval = 5 * time.Minute

// compaction is the parsed setting of auto compaction.
type compaction struct {
	// period is how long history is kept; 0 is off or the other mode.
	period time.Duration
	// revisions is how many revisions are kept; 0 is off or the other mode.
	revisions int64
}

func (c *Config) compaction() (compaction, error) {
	const flag = "auto-compaction-retention"
	switch c.AutoCompactionMode {
	case "periodic":
		if h, err := strconv.Atoi(c.AutoCompactionSetting); err == nil && h >= 0 {
			return compaction{period: time.Duration(h) * time.Hour}, nil
		}
		d, err := time.ParseDuration(c.AutoCompactionSetting)
		if err != nil || d < 0 {
			return compaction{}, refuse(flag, c.AutoCompactionSetting, "in the mode periodic, a number of hours or a duration such as 30m")
		}
		return compaction{period: d}, nil
	case "revision":
		n, err := strconv.ParseInt(c.AutoCompactionSetting, 10, 64)
		if err != nil || n < 0 {
			return compaction{}, refuse(flag, c.AutoCompactionSetting, "in the mode revision, a number of revisions")
		}
		return compaction{revisions: n}, nil
	}
	return compaction{}, refuse("auto-compaction-mode", c.AutoCompactionMode, "periodic or revision")
}

// interval is how often the revision is looked at: etcd's tenth of the period,
// and at least every six minutes.
func (c compaction) interval() time.Duration {
	if c.revisions > 0 {
		return revisionInterval
	}
	return max(min(c.period, time.Hour)/10, time.Millisecond)
}

// runCompaction compacts while this member leads; the others only keep the
// revisions in mind, for the case that they do.
func (n *Node) runCompaction(ctx context.Context) {
	c, err := n.c.compaction()
	if err != nil || (c.period == 0 && c.revisions == 0) {
		return
	}
	tick := time.NewTicker(c.interval())
	defer tick.Stop()
	var history revisions
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.host.Done():
			return
		case now := <-tick.C:
			rev := n.host.Machine().KV().Rev()
			target := rev - c.revisions
			if c.revisions == 0 {
				target = history.before(now, rev, c.period)
			}
			if target > 0 && n.host.Status().IsLeader() {
				n.compact(ctx, target)
			}
		}
	}
}

func (n *Node) compact(ctx context.Context, rev int64) {
	if rev <= n.host.Machine().KV().CompactRev() {
		return
	}
	body, err := proto.Marshal(&pb.CompactionRequest{Revision: rev})
	if err != nil {
		n.c.Logger.Error("auto compaction", "error", err)
		return
	}
	r, _, err := n.host.Propose(ctx, state.Command{Kind: state.KindCompact, Body: body})
	if err = errors.Join(err, r.Err); err != nil && !errors.Is(err, mvcc.ErrCompacted) {
		n.c.Logger.Warn("auto compaction failed; it is tried again", "revision", rev, "error", err)
		return
	}
	n.c.Logger.Info("auto compaction", "revision", rev)
}

// revisions remembers which revision was the newest at which time.
type revisions struct {
	at   []time.Time
	revs []int64
}

// before notes the newest revision and returns the one that was newest a period
// ago; 0 while that is not known.
func (r *revisions) before(now time.Time, rev int64, period time.Duration) int64 {
	r.at, r.revs = append(r.at, now), append(r.revs, rev)
	var target int64
	keep := 0
	for i, t := range r.at {
		if now.Sub(t) >= period {
			target, keep = r.revs[i], i
		}
	}
	r.at, r.revs = r.at[keep:], r.revs[keep:]
	return target
}

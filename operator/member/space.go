package member

import (
	"context"
	"errors"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/prototext"
)

// alarms reads the alarms out of a member's errors, where they stand as text.
func alarms(texts []string) []Alarm {
	var out []Alarm
	for _, text := range texts {
		var a pb.AlarmMember
		if err := prototext.Unmarshal([]byte(text), &a); err == nil && a.Alarm != pb.AlarmType_NONE {
			out = append(out, Alarm{Type: a.Alarm.String(), Member: ID(a.MemberID)})
		}
	}
	return out
}

// compacted asks for the revision before the newest, while that matters. Not
// knowing is no: another compaction does no harm.
func compacted(ctx context.Context, c *clientv3.Client, s Status) bool {
	if !slices.ContainsFunc(s.Alarms, func(a Alarm) bool { return a.Type == NoSpace }) || s.Revision < 2 {
		return false
	}
	_, err := c.Get(ctx, "\x00", clientv3.WithRev(s.Revision-1), clientv3.WithSerializable(), clientv3.WithCountOnly())
	return errors.Is(err, rpctypes.ErrCompacted)
}

// Compact implements Access. It waits for the rows to be gone, as long as a call
// may take.
func (e *Etcd) Compact(ctx context.Context, endpoints []string, revision int64) error {
	err := e.change(ctx, endpoints, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Compact(ctx, revision, clientv3.WithCompactPhysical())
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("compact to revision %d: %w", revision, err)
	}
	return nil
}

// Defragment implements Access.
func (e *Etcd) Defragment(ctx context.Context, endpoint string) error {
	err := e.change(ctx, []string{endpoint}, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Defragment(ctx, endpoint)
		return err
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("defragment %s: %w", endpoint, err)
	}
	return nil
}

// Disarm implements Access.
func (e *Etcd) Disarm(ctx context.Context, endpoints []string, a Alarm) error {
	err := e.change(ctx, endpoints, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: uint64(a.Member), Alarm: pb.AlarmType(pb.AlarmType_value[a.Type])})
		return err
	})
	if err != nil {
		return fmt.Errorf("disarm %s of member %x: %w", a.Type, uint64(a.Member), err)
	}
	return nil
}

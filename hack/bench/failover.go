package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// putEvery is between two puts while a leader is replaced, which bounds how
	// exactly the outage is known.
	putEvery = 5 * time.Millisecond
	// failoverLimit is how long a replacement may take.
	failoverLimit = 15 * time.Second
	// settleTime is how long puts go on after the first one that was acknowledged
	// again, so that a second outage counts too.
	settleTime = time.Second
)

// failover kills the leader, and later ends one in order, while puts go to the
// other members, and tells the longest time without an acknowledged one.
func failover(ctx context.Context, members []*member) ([]figure, error) {
	if len(members) < 3 {
		return nil, fmt.Errorf("a leader is replaced among 3 members, not %d", len(members))
	}
	var figures []figure
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		leader, others, err := leading(ctx, members)
		if err != nil {
			return nil, err
		}
		took, err := outage(ctx, others, func() error { return leader.cmd.Process.Signal(signal) })
		if err != nil {
			return nil, fmt.Errorf("signal %q: %w", signal, err)
		}
		figures = append(figures, figure{fmt.Sprintf("outage when the leader is %s", signal), float64(took.Microseconds()) / 1000, "ms"})
		<-leader.ended
		if err := errors.Join(leader.again(), leader.waitHealthy(ctx)); err != nil {
			return nil, err
		}
	}
	return figures, nil
}

// leading tells the leader from the others.
func leading(ctx context.Context, members []*member) (leader *member, others []*member, err error) {
	for _, m := range members {
		conn, err := m.dial()
		if err != nil {
			return nil, nil, err
		}
		s, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
		if err := errors.Join(err, conn.Close()); err != nil {
			return nil, nil, err
		}
		if s.Leader == s.Header.MemberId {
			leader = m
		} else {
			others = append(others, m)
		}
	}
	if leader == nil || len(others) != len(members)-1 {
		return nil, nil, errors.New("there is not one leader")
	}
	return leader, others, nil
}

func (m *member) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+m.client, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// outage is the longest time between two acknowledged puts, from deed on.
func outage(ctx context.Context, members []*member, deed func() error) (longest time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, failoverLimit)
	defer cancel()
	var kvs []pb.KVClient
	for _, m := range members {
		conn, err := m.dial()
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		kvs = append(kvs, pb.NewKVClient(conn))
		if _, err := kvs[len(kvs)-1].Put(ctx, &pb.PutRequest{Key: []byte("failover")}); err != nil {
			return 0, err
		}
	}
	if err := deed(); err != nil {
		return 0, err
	}
	acked := make(chan time.Time, failoverLimit/putEvery)
	var puts sync.WaitGroup
	defer puts.Wait()
	defer cancel()
	last, settled := time.Now(), (<-chan time.Time)(nil)
	began := last
	tick := time.NewTicker(putEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
			puts.Go(func() {
				if _, err := kvs[n%len(kvs)].Put(ctx, &pb.PutRequest{Key: []byte("failover")}); err == nil {
					acked <- time.Now()
				}
			})
		case at := <-acked:
			longest, last = max(longest, at.Sub(last)), at
			// The leader may acknowledge a few more while it is told to end.
			if settled == nil || longest == at.Sub(began) {
				settled = time.After(settleTime)
			}
		case <-settled:
			if time.Since(last) < settleTime {
				return longest, nil
			}
			settled = nil // there is an outage now
		case <-ctx.Done():
			return 0, fmt.Errorf("no put was acknowledged for %s", time.Since(last))
		}
	}
}

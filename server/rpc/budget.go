package rpc

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const (
	// freeBytes is how large a request or a response may be that draws on no
	// budget, so that what is small never waits for what is large.
	freeBytes = 16 << 10
	// budgetWait is how long a call waits for a budget to have room.
	budgetWait = 3 * time.Second
	// handedOnBytes are the most of large commands that are with the replica: more
	// would not be written faster, and what is small would wait behind them.
	handedOnBytes = 16 << 20
)

// budget bounds the bytes of one kind that are under way for all clients
// together. A connection may hold as much as is free without the last quarter,
// and from that a 64th: those that give nothing back leave room for others, and
// no rate has to be known. It is how switches share their buffers (Choudhury and
// Hahne, Dynamic Queue Length Thresholds, 1998). One connection alone gets 3/8.
type budget struct {
	limitBytes int64
	// wait is how long a call waits for room.
	wait time.Duration

	mu sync.Mutex
	// used is the sum of held, which has connections that hold something.
	used int64
	held map[string]int64
	// wanted are the bytes that calls wait for. Invariant: at most maxWanted.
	wanted, maxWanted int64
	freed             chan struct{} // closed when there is more room; nil when nobody waits
}

func newBudget(limitBytes int64) *budget {
	return &budget{limitBytes: limitBytes, maxWanted: limitBytes, wait: budgetWait, held: make(map[string]int64)}
}

// draw takes bytes for a connection. It waits for room, for a while, unless too
// many wait already; the error is the wire's.
func (b *budget) draw(ctx context.Context, conn string, n int64) error {
	freed, err := b.try(conn, n, false)
	if freed == nil {
		return err
	}
	defer b.endWait(n)
	timeout := time.NewTimer(b.wait)
	defer timeout.Stop()
	for freed != nil {
		select {
		case <-freed:
		case <-timeout.C:
			return rpctypes.ErrGRPCRequestTooManyRequests
		case <-ctx.Done():
			return streamEnd(ctx)
		}
		freed, _ = b.try(conn, n, true)
	}
	return nil
}

// try takes bytes, or returns what is closed when it is worth another try. The
// first time it refuses when too many wait.
func (b *budget) try(conn string, n int64, waits bool) (freed <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	free := b.limitBytes - b.used
	if n <= free && b.held[conn]+n <= max(b.limitBytes/64, free-b.limitBytes/4) {
		b.add(conn, n)
		return nil, nil
	}
	if !waits {
		if b.wanted+n > b.maxWanted {
			return nil, rpctypes.ErrGRPCRequestTooManyRequests
		}
		b.wanted += n
	}
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	return b.freed, nil
}

func (b *budget) endWait(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wanted -= n
}

// add is also for what has to be counted whether there is room or not, and with
// less than 0 for what is given back. The caller holds mu.
func (b *budget) add(conn string, n int64) {
	b.used += n
	if b.held[conn] += n; b.held[conn] <= 0 {
		delete(b.held, conn)
	}
	if n < 0 && b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

// drawing is what one call holds of a budget. One goroutine calls grow; release
// may come from any, and more than once.
type drawing struct {
	b    *budget
	ctx  context.Context //nolint:containedctx // it lives as long as the call
	conn string
	// size is what grow was told; only what is beyond freeBytes is drawn.
	size int64
	// drawn tells that there was ever something to release; it is grow's and
	// settle's goroutine's.
	drawn bool
	// held is guarded by b.mu.
	held int64
}

// grow adds to the size. It waits when the budget is used up.
func (d *drawing) grow(sizeBytes int) error {
	if d == nil {
		return nil
	}
	d.size += int64(sizeBytes)
	if d.size <= freeBytes {
		return nil
	}
	if most := d.b.limitBytes / 8 * 3; d.size > most {
		return tooLarge(d.size, most)
	}
	if d.conn == "" {
		d.conn = connection(d.ctx)
	}
	d.drawn = true
	n := d.size - d.held // only this goroutine changes held until the size is settled
	if err := d.b.draw(d.ctx, d.conn, n); err != nil {
		return err
	}
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.held += n
	return nil
}

// settle sets what is held to the real size, whether there is room or not.
func (d *drawing) settle(sizeBytes int) {
	if d.conn == "" {
		d.conn = connection(d.ctx)
	}
	d.drawn = true
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.b.add(d.conn, int64(sizeBytes)-d.held)
	d.held = int64(sizeBytes)
}

func (d *drawing) release() {
	if !d.drawn {
		return
	}
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	if d.held != 0 {
		d.b.add(d.conn, -d.held)
		d.held = 0
	}
}

// connection names the connection that a call came by.
func connection(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}

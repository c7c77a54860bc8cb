package host

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/replica"
)

// queue hands work from the raft goroutine to another one, in order. Its length
// is bounded by raft: appends by the messages in flight, applies by the bytes
// that raft lets be applied at a time.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	wake  chan struct{}
}

func (q *queue[T]) init() { q.wake = make(chan struct{}, 1) }

func (q *queue[T]) put(v T) {
	q.mu.Lock()
	q.items = append(q.items, v)
	q.mu.Unlock()
	signal(q.wake)
}

// take returns everything that waits.
func (q *queue[T]) take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // a signal waits already
	}
}

// maxInboxMessages bounds what peers may pile up; more is dropped, as a network
// would.
const maxInboxMessages = 16384

// inbox is what the raft goroutine has to take up.
type inbox struct {
	wake chan struct{}

	mu       sync.Mutex
	messages []*raftpb.Message
	// done are answers of the log and apply goroutines and reports about
	// sending; never dropped.
	done []func(*replica.Replica) error
	// hungUp are the peers that closed their connection, after the messages.
	hungUp []uint64
}

func (b *inbox) message(m *raftpb.Message) {
	b.mu.Lock()
	if len(b.messages) < maxInboxMessages {
		b.messages = append(b.messages, m)
	}
	b.mu.Unlock()
	signal(b.wake)
}

func (b *inbox) do(f func(*replica.Replica) error) {
	b.mu.Lock()
	b.done = append(b.done, f)
	b.mu.Unlock()
	signal(b.wake)
}

func (b *inbox) end(peer uint64) {
	b.mu.Lock()
	b.hungUp = append(b.hungUp, peer)
	b.mu.Unlock()
	signal(b.wake)
}

func (b *inbox) take() (messages []*raftpb.Message, done []func(*replica.Replica) error, hungUp []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	messages, done, hungUp = b.messages, b.done, b.hungUp
	b.messages, b.done, b.hungUp = nil, nil, nil
	return messages, done, hungUp
}

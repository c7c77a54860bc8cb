//go:build rocksdb

package rocksdb

import "sync/atomic"

// gate lets calls in until it is closed, and lets closing wait for those that
// are inside: RocksDB must not be freed under a call. A call that is inside may
// enter again, also while the gate is closing, and is then told that it closed.
type gate struct {
	// state is the number of calls inside, plus gateClosed.
	state atomic.Int64
	// drained gets a value when the last call leaves a closed gate.
	drained chan struct{}
}

const gateClosed = 1 << 40

func newGate() gate { return gate{drained: make(chan struct{}, 1)} }

// enter tells whether the gate is open; then leave must be called.
func (g *gate) enter() bool {
	if g.state.Add(1) >= gateClosed {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() {
	if g.state.Add(-1) == gateClosed {
		select {
		case g.drained <- struct{}{}:
		default: // it was told already
		}
	}
}

// close closes the gate and waits until all calls left. It tells whether this
// call was the one that closed it.
func (g *gate) close() bool {
	for {
		n := g.state.Load()
		if n >= gateClosed {
			return false
		}
		if g.state.CompareAndSwap(n, n+gateClosed) {
			break
		}
	}
	for g.state.Load() != gateClosed {
		<-g.drained
	}
	return true
}

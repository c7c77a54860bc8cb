//go:build rocksdb

package rocksdb

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestGateClosesAfterTheLastCallLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		for range 2 {
			if !g.enter() {
				t.Fatal("the open gate lets nobody in")
			}
		}
		closed := make(chan bool, 1)
		go func() { closed <- g.close() }()
		synctest.Wait()
		if g.enter() {
			t.Error("the closing gate lets a call in")
		}
		g.leave()
		synctest.Wait()
		if len(closed) != 0 {
			t.Fatal("the gate closed over a call")
		}
		g.leave()
		if !<-closed {
			t.Error("close did not say that it closed the gate")
		}
		if g.close() {
			t.Error("the second close says that it closed the gate")
		}
	})
}

func TestGateUnderContention(t *testing.T) {
	for range 200 {
		g := newGate()
		var inside atomic.Int64
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				for g.enter() {
					inside.Add(1)
					inside.Add(-1)
					g.leave()
				}
			})
		}
		if !g.close() || inside.Load() != 0 {
			t.Fatal("the gate closed over a call")
		}
		calls.Wait()
	}
}

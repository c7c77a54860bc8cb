//go:build rocksdb

package rocksdb

import (
	"sync"
	"sync/atomic"
	"time"

	"metastore.io/metastore/server/engine"
)

// sizeCache keeps the size that RocksDB last told, because asking costs its
// lock, and adds what was written since.
type sizeCache struct {
	measure func() engine.Size
	now     func() time.Time
	// added counts the bytes applied since the last measurement.
	added atomic.Int64

	mu sync.Mutex
	// last and at are the last measurement and its time. Guarded by mu.
	last engine.Size
	at   time.Time
}

// sizeAge is how old a measurement may be.
const sizeAge = time.Second

func (c *sizeCache) get() engine.Size {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); c.at.IsZero() || now.Sub(c.at) > sizeAge {
		c.added.Store(0)
		c.last, c.at = c.measure(), now
	}
	added := c.added.Load()
	return engine.Size{TotalBytes: c.last.TotalBytes + added, UsedBytes: c.last.UsedBytes + added}
}

// expire makes the next get measure.
func (c *sizeCache) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Time{}
}

// Size tells the bytes of table files and memtables, at most a second old.
func (e *rocks) Size() engine.Size {
	if !e.gate.enter() {
		return engine.Size{}
	}
	defer e.gate.leave()
	return e.sizes.get()
}

func (e *rocks) measure() engine.Size {
	var size engine.Size
	for _, cf := range e.cfs {
		property := func(name string) int64 {
			n, _ := e.db.GetIntPropertyCF("rocksdb."+name, cf) // 0 where there is none
			return int64(n)
		}
		memory := property("cur-size-all-mem-tables")
		size.TotalBytes += property("total-sst-files-size") + memory
		size.UsedBytes += property("estimate-live-data-size") + memory
	}
	size.UsedBytes = min(size.UsedBytes, size.TotalBytes)
	return size
}

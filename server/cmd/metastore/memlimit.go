package main

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"metastore.io/metastore/server/node"
)

const (
	// reservePercent of a container's memory belong to no budget: stacks of C,
	// RocksDB's iterators, the allocator's slack.
	reservePercent = 15
	// leastGoPercent of a container's memory are the Go heap's however large
	// RocksDB's caches are set.
	leastGoPercent = 25
)

// limitMemory keeps the Go heap within the container: where GOMEMLIMIT does not
// say, the limit is that of the cgroup without what RocksDB may take. It is the
// operator's rule for its pods, for those that run without it. The result is
// what the node may use; 0 when there is no limit.
func limitMemory(c *node.Config) int64 {
	if os.Getenv("GOMEMLIMIT") != "" {
		return logGoLimit(c.Logger, "GOMEMLIMIT", debug.SetMemoryLimit(-1))
	}
	total, err := memlimit.FromCgroup()
	switch {
	case errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported):
		return logGoLimit(c.Logger, "none", math.MaxInt64)
	case err != nil:
		c.Logger.Warn("memory limit of the cgroup not read", "error", err)
		return logGoLimit(c.Logger, "none", math.MaxInt64)
	}
	limit := goLimit(int64(min(total, math.MaxInt64)), nativeBytes(c))
	debug.SetMemoryLimit(limit)
	return logGoLimit(c.Logger, "cgroup", limit)
}

// goLimit is the Go heap's part of a container's memory, in whole MiB.
func goLimit(totalBytes, nativeBytes int64) int64 {
	percent := func(p int64) int64 { return totalBytes/100*p + totalBytes%100*p/100 }
	return max(percent(100-reservePercent)-nativeBytes, percent(leastGoPercent)) &^ (1<<20 - 1)
}

// nativeBytes is the memory that RocksDB fills before it stops growing.
func nativeBytes(c *node.Config) int64 {
	if c.StorageEngine != node.EngineRocksDB {
		return 0
	}
	return c.RocksDB.BlockCacheBytes + c.RocksDB.WriteBufferBytes*int64(c.RocksDB.MaxWriteBufferNumber)
}

func logGoLimit(l *slog.Logger, from string, limit int64) int64 {
	if limit == math.MaxInt64 {
		l.Info("the Go heap has no memory limit", "source", from)
		return 0
	}
	l.Info("memory limit of the Go heap", "bytes", limit, "source", from)
	return limit
}

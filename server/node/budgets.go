package node

import "metastore.io/metastore/server/watch"

// Budgets of what is under way for clients are shares of the memory that the Go
// heap may take, so that a small container holds under any load: a command is
// there up to four times on its way (as it came, in its entry, in the log's
// buffer, in the engine), a response twice while it is encoded. The rest is for
// the index, connections and the collector. Without a limit the parts keep
// their defaults.
const (
	requestsShare  = 16
	pendingShare   = 8 // small requests, too, which do not count as requests
	responsesShare = 4
	outboxesShare  = 16
	replaysShare   = 16
)

// maxPendingBytes is where more would only be a longer queue.
const maxPendingBytes = 256 << 20

func (c *Config) requestsBytes() int64 { return min(c.MemoryBytes/requestsShare, maxPendingBytes) }

func (c *Config) pendingBytes() int { return int(min(c.MemoryBytes/pendingShare, maxPendingBytes)) }

func (c *Config) watchOptions() watch.Options {
	return watch.Options{
		ProgressInterval: c.WatchProgressInterval,
		OutboxesBytes:    c.MemoryBytes / outboxesShare,
		ReplaysBytes:     c.MemoryBytes / replaysShare,
	}
}

package node

import (
	"fmt"

	"github.com/dustin/go-humanize"
)

// defragment gives space back at the start, when enough would come free.
func (n *Node) defragment() error {
	if n.c.DefragMegabytes == 0 {
		return nil
	}
	size := n.machine.Size()
	threshold := uint64(n.c.DefragMegabytes) << 20
	free := uint64(max(size.TotalBytes-size.UsedBytes, 0))
	attrs := []any{
		"current-db-size-bytes", size.TotalBytes, "current-db-size", humanize.IBytes(uint64(size.TotalBytes)),
		"current-db-size-in-use-bytes", size.UsedBytes, "current-db-size-in-use", humanize.IBytes(uint64(size.UsedBytes)),
		"bootstrap-defrag-threshold-bytes", threshold, "bootstrap-defrag-threshold", humanize.IBytes(threshold),
	}
	if free < threshold {
		n.c.Logger.Info("Skipping defragmentation", attrs...)
		return nil
	}
	n.c.Logger.Info("defragmenting", attrs...)
	if err := n.machine.Defragment(); err != nil {
		return fmt.Errorf("defragment: %w", err)
	}
	return nil
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"metastore.io/metastore/server/etcdfile"
	"metastore.io/metastore/server/node"
)

// newSnapshot has etcdutl's commands and flags for snapshot files.
func newSnapshot() *cobra.Command {
	c := &cobra.Command{
		Use:   "snapshot",
		Short: "Look at a snapshot of etcd or MetaStore, or start a data dir from it",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newSnapshotRestore(), newSnapshotStatus())
	return c
}

// oneFile wants one argument.
func oneFile(_ *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return usage(fmt.Errorf("one snapshot file is needed, %d arguments are given", len(args)))
}

func usage(err error) error { return &node.ExitError{Code: node.ExitUsage, Err: err} }

func newSnapshotRestore() *cobra.Command {
	c := node.DefaultConfig()
	var o node.RestoreOptions
	var peerURLs, level string
	var markCompacted, skipHash bool
	cmd := &cobra.Command{
		Use:   "restore FILE --data-dir DIR",
		Short: "Make a new data dir from a snapshot of etcd v3.5 to v3.7 or of MetaStore",
		Args:  oneFile,
	}
	fs := cmd.Flags()
	fs.StringVar(&c.Name, "name", c.Name, "Human-readable name for this member.")
	fs.StringVar(&c.DataDir, "data-dir", "", "Path to the new data directory; ${name}.metastore when not given.")
	fs.StringVar(&c.StorageEngine, "storage-engine", c.StorageEngine, "rocksdb or memory.")
	fs.StringVar(&c.InitialCluster, "initial-cluster", "", "Members of the new cluster, as name=URL pairs; this member alone when not given.")
	fs.StringVar(&c.InitialClusterToken, "initial-cluster-token", c.InitialClusterToken, "Token of the new cluster.")
	fs.StringVar(&peerURLs, "initial-advertise-peer-urls", "http://localhost:2380", "This member's peer URLs.")
	fs.BoolVar(&skipHash, "skip-hash-check", false, "Do not look for the file's sha256 (needed if it was copied from a data dir of etcd).")
	fs.Uint64Var(&o.BumpRevision, "bump-revision", 0, "Revisions to add to the newest one; goes with --mark-compacted.")
	fs.BoolVar(&markCompacted, "mark-compacted", false, "Mark the newest revision as compacted; goes with --bump-revision.")
	fs.StringVar(&level, "log-level", "info", "debug, info, warn, error, dpanic, panic or fatal.")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if markCompacted != (o.BumpRevision > 0) {
			return usage(errors.New("--mark-compacted and a --bump-revision above 0 go together: give both or none"))
		}
		if c.Logger, err = stderrLogger(level); err != nil {
			return usage(err)
		}
		if c.AdvertisePeerURLs, err = node.ParseURLs("initial-advertise-peer-urls", peerURLs); err != nil {
			return usage(err)
		}
		if c.DataDir == "" {
			c.DataDir = c.Name + ".metastore"
		}
		o.File = args[0]
		if skipHash {
			o.Check = etcdfile.HashSkipped
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return node.Restore(ctx, c, o)
	}
	return cmd
}

func newSnapshotStatus() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "status FILE",
		Short: "Print hash, revision, total keys, total size and storage version of a snapshot",
		Args:  oneFile,
	}
	cmd.Flags().StringVarP(&format, "write-out", "w", "simple", "simple or json.")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if format != "simple" && format != "json" {
			return usage(fmt.Errorf("--write-out=%s is not valid: simple or json is allowed", format))
		}
		f, err := etcdfile.Open(args[0], etcdfile.HashIfPresent)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read from
		s, err := f.Status()
		if err != nil {
			return err
		}
		return printStatus(cmd.OutOrStdout(), s, format)
	}
	return cmd
}

// printStatus prints what etcdutl prints.
func printStatus(w io.Writer, s etcdfile.Status, format string) (err error) {
	if format == "json" {
		return json.NewEncoder(w).Encode(s)
	}
	_, err = fmt.Fprintf(w, "%x, %d, %d, %s, %s\n", s.Hash, s.Revision, s.TotalKey, humanize.Bytes(uint64(s.TotalSize)), s.Version)
	return err
}

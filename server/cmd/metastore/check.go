package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"metastore.io/metastore/server/node"
)

func newCheck() *cobra.Command {
	var rev int64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check DATA-DIR",
		Short: "Verify the data dir of a member that does not run, without changing it",
		Long: `Verify the data dir of a member that does not run: log, engine and every row.
Nothing is changed. What is wrong is told with its file, its offset and what to
do, and with the exit code with which a start would end: 3 empty, 4 not a data
dir of MetaStore, 5 of a newer version, 6 in use, 7 damaged.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return usage(fmt.Errorf("one data dir is needed, %d arguments are given", len(args)))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if rev < 0 {
				return usage(fmt.Errorf("--rev=%d is not valid: 0 or a revision is allowed", rev))
			}
			r, err := node.Check(node.CheckOptions{DataDir: args[0], Revision: rev})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			return printCheck(cmd.OutOrStdout(), r)
		},
	}
	cmd.Flags().Int64Var(&rev, "rev", 0, "Revision to hash; 0 is the newest. Two members agree when their hashes of one revision do, and their compacted revisions are the same.")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	return cmd
}

func compacted(rev int64) string {
	if rev < 0 {
		return "never"
	}
	return fmt.Sprint(rev)
}

func printCheck(out io.Writer, r *node.CheckReport) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, name+":\t"+format+"\n", args...) // Flush has the error
	}
	line("data dir", "%s", r.DataDir)
	line("engine", "%s", r.Engine)
	line("cluster ID", "%s", r.ClusterID)
	line("member ID", "%s", r.MemberID)
	line("incarnations", "%d", r.Incarnations)
	if r.Started {
		line("members", "%d", r.Members)
		line("log", "entries %d to %d, committed to %d at least, segments %d", r.FirstIndex, r.LastIndex, r.CommitIndex, r.Segments)
		line("applied", "index %d of term %d, %d without the log", r.AppliedIndex, r.AppliedTerm, r.FlushedIndex)
		line("revision", "%d", r.Revision)
		line("compacted", "%s", compacted(r.CompactRevision))
		line("keys", "%d", r.Keys)
		line("leases", "%d", r.Leases)
		line("auth", "enabled %v, users %d, roles %d", r.AuthEnabled, r.Users, r.Roles)
		line("hash", "%d at revision %d", r.Hash, r.HashRevision)
	}
	for _, n := range r.Notes {
		line("note", "%s", n)
	}
	line("result", "no damage found")
	return w.Flush()
}

// Command metastore is a replicated metadata store that speaks the etcd v3 API.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"metastore.io/metastore/server/node"
	"metastore.io/metastore/server/rpc"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	root := newRoot()
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		args = twoDashes(root.Flags(), args)
	}
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "metastore: "+err.Error())
	var exit *node.ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	return node.ExitFailure
}

func newRoot() *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use:           "metastore",
		Short:         "A replicated metadata store that speaks the etcd v3 API",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       rpc.EtcdVersion,
		RunE:          func(cmd *cobra.Command, _ []string) error { return serve(cmd, &f) },
	}
	root.SetVersionTemplate(versionText())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &node.ExitError{Code: node.ExitUsage, Err: fmt.Errorf("%w; metastore --help lists the flags", err)}
	})
	root.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return &node.ExitError{Code: node.ExitUsage, Err: fmt.Errorf("%q is not a valid command line argument; metastore --help lists the flags", args[0])}
	}
	f.register(root.Flags())
	root.AddCommand(newSnapshot(), newBackup(), newCheck(), newGRPCProxy(), newGateway(), newBench(), &cobra.Command{
		Use: "version", Short: "Print the versions", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprint(cmd.OutOrStdout(), versionText()) },
	})
	return root
}

func versionText() string {
	return fmt.Sprintf("etcd Version: %s\nMetaStore Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		rpc.EtcdVersion, rpc.Version, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// commit is what this binary was built from, where the build knew.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "not known"
}

// serve runs a member until a signal or a failure ends it.
func serve(cmd *cobra.Command, f *flags) error {
	c, err := f.config(cmd.Flags())
	if err != nil {
		return &node.ExitError{Code: node.ExitUsage, Err: err}
	}
	c.MemoryBytes = limitMemory(&c)
	defer paceGC(c.MemoryBytes)()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	n, err := node.Start(ctx, c)
	if err != nil {
		return err
	}
	failure := n.Wait(ctx)
	stop() // a second signal ends the process at once
	if errors.Is(failure, context.Canceled) {
		c.Logger.Info("stopping after a signal")
		failure = nil
	}
	return errors.Join(failure, n.Stop(context.Background()))
}

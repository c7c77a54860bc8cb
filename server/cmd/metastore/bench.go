package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"metastore.io/metastore/server/bench"
)

// newBench has a subcommand for each scenario, with the flags that it knows.
func newBench() *cobra.Command {
	group := &cobra.Command{
		Use:   "bench SCENARIO",
		Short: "Put load on a server of etcd's v3 API and measure it",
		Long: `Put load on a server of etcd's v3 API and measure it.
Every reply is checked, and a wrong one fails the run as a refused one does. Keys
below the prefix are written and deleted, and nothing else is.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(errors.New("bench needs a scenario; metastore bench --help lists them"))
			}
			return usage(fmt.Errorf("%q is no scenario; metastore bench --help lists them", args[0]))
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // else Args is not asked
	}
	group.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; %s --help lists the flags", err, cmd.CommandPath()))
	})
	for _, s := range bench.Scenarios() {
		group.AddCommand(newScenario(s))
	}
	return group
}

func newScenario(s bench.Scenario) *cobra.Command {
	var c bench.Config
	var jsonFile, svgFile string
	var quiet bool
	cmd := &cobra.Command{
		Use: s.Name, Short: s.Short,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("bench %s takes flags only, not %q", s.Name, args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.Validate(); err != nil {
				return usage(err)
			}
			if !quiet {
				c.Progress = cmd.ErrOrStderr()
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal ends the process at once
			report, err := bench.Run(ctx, s, c)
			if report == nil {
				return err
			}
			return errors.Join(err, report.Print(cmd.OutOrStdout()), writeFile(jsonFile, func(w io.Writer) error {
				e := json.NewEncoder(w)
				e.SetIndent("", "  ")
				return e.Encode(report)
			}), writeFile(svgFile, report.Plot))
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	s.Flags(&c, fs)
	fs.StringVar(&jsonFile, "json", "", "File to write the report to, as JSON.")
	fs.StringVar(&svgFile, "svg", "", "File to write a plot to.")
	fs.BoolVar(&quiet, "quiet", false, "No progress on standard error.")
	return cmd
}

// writeFile writes nothing when there is no name.
func writeFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"metastore.io/metastore/server/backup"
	"metastore.io/metastore/server/node"
)

// maxResultBytes is what Kubernetes keeps of a termination message.
const maxResultBytes = 4096

// backupResult is what --result-file gets.
type backupResult struct {
	OK       bool             `json:"ok"`
	Reason   backup.Reason    `json:"reason,omitempty"`
	Message  string           `json:"message,omitempty"`
	Manifest *backup.Manifest `json:"manifest,omitempty"`
	Revision int64            `json:"revision,omitempty"`
}

// backupFlags are those that several of the commands have.
type backupFlags struct {
	resultFile, logLevel, format string
	location                     backup.Location
	codec                        backup.Codec
	members                      backup.Members
	clusterID, scratch, once     string
}

func newBackup() *cobra.Command {
	f := &backupFlags{}
	c := &cobra.Command{
		Use:   "backup",
		Short: "Take backups of a running cluster, verify them, and make data dirs from them",
		Long: `Take backups of a running cluster, verify them, and make data dirs from them.
A destination is a folder, or s3://BUCKET/PREFIX with the credentials in
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.PersistentFlags().StringVar(&f.resultFile, "result-file", "", "File that gets the result as one JSON object.")
	c.PersistentFlags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn, error, dpanic, panic or fatal.")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return f.finish(nil, &backup.Error{Reason: backup.InvalidArgument, Err: err})
	})
	c.AddCommand(f.take(), f.verify(), f.restore(), f.undo(), f.finished(), f.remove(), f.list())
	return c
}

// Flag groups.

func (f *backupFlags) storeFlags(fs *pflag.FlagSet, flag, what string) {
	fs.StringVar(&f.location.URL, flag, "", what+": a folder or s3://BUCKET/PREFIX.")
	fs.StringVar(&f.location.S3.Endpoint, "s3-endpoint", "", "URL of S3-compatible storage; Amazon's when not given.")
	fs.StringVar(&f.location.S3.Region, "s3-region", "", "Its region.")
	fs.StringVar(&f.location.S3.CAFile, "s3-ca-file", "", "CA that its certificate is checked against.")
}

func (f *backupFlags) memberFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.members.Endpoints, "endpoints", nil, "Client URLs of all members, with commas between.")
	fs.StringVar(&f.members.TLS.TrustedCAFile, "cacert", "", "CA that the members' certificates are checked against.")
	fs.StringVar(&f.members.TLS.CertFile, "cert", "", "Certificate to show to members.")
	fs.StringVar(&f.members.TLS.KeyFile, "key", "", "Its key.")
	fs.StringVar(&f.members.User, "user", "", "User to speak to members as; the password is in METASTORE_PASSWORD.")
}

func (f *backupFlags) identityFlag(fs *pflag.FlagSet) {
	fs.StringVar(&f.codec.IdentityFile, "age-identity-file", "", "age identities that can decrypt the backup.")
}

func (f *backupFlags) clusterFlag(fs *pflag.FlagSet) {
	fs.StringVar(&f.clusterID, "cluster-id", "", "Refuse backups of any other cluster than this ID (hexadecimal).")
}

func (f *backupFlags) scratchFlag(fs *pflag.FlagSet) {
	fs.StringVar(&f.scratch, "scratch", "", "Folder for temporary files; the system's when not given.")
}

// backupWork does the work of one command. It may give a manifest with an error.
type backupWork func(ctx context.Context, cmd *cobra.Command, args []string) (*backupResult, error)

// run wraps work so that it ends on a signal, and tells its result.
func (f *backupFlags) run(args int, work backupWork) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) != args {
			return f.finish(nil, &backup.Error{Reason: backup.InvalidArgument, Err: fmt.Errorf("the name of one backup is needed, %d arguments are given", len(given))})
		}
		for _, v := range []struct {
			to   *string
			name string
		}{
			{&f.location.S3.AccessKeyID, "AWS_ACCESS_KEY_ID"}, {&f.location.S3.SecretAccessKey, "AWS_SECRET_ACCESS_KEY"},
			{&f.location.S3.SessionToken, "AWS_SESSION_TOKEN"}, {&f.members.Password, "METASTORE_PASSWORD"},
		} {
			*v.to = os.Getenv(v.name)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return f.finish(work(ctx, cmd, given))
	}
}

// finish writes the result file, and gives an error the exit code 2 when it is
// the caller's, else 1.
func (f *backupFlags) finish(r *backupResult, err error) error {
	if r == nil {
		r = &backupResult{}
	}
	r.OK = err == nil
	if err != nil {
		r.Reason, r.Message = backup.ReasonOf(err), err.Error()
	}
	code := node.ExitFailure
	if r.Reason == backup.InvalidArgument {
		code = node.ExitUsage
	}
	if err := errors.Join(err, f.writeResult(r)); err != nil {
		return &node.ExitError{Code: code, Err: err}
	}
	return nil
}

// writeResult writes into a file that may be there, as Kubernetes' is.
func (f *backupFlags) writeResult(r *backupResult) error {
	if f.resultFile == "" {
		return nil
	}
	b, err := r.encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.resultFile, b, 0o644); err != nil {
		return fmt.Errorf("write --result-file: %w", err)
	}
	return nil
}

// encode cuts the message so that all fits.
func (r *backupResult) encode() ([]byte, error) {
	for {
		b, err := json.Marshal(r)
		if err != nil || len(b) <= maxResultBytes || r.Message == "" {
			return b, err
		}
		// In JSON a character takes more bytes than it has.
		keep := len(r.Message) * maxResultBytes / len(b) * 9 / 10
		r.Message = strings.ToValidUTF8(r.Message[:keep], "") + cutMark
	}
}

// cutMark ends a message that was cut.
const cutMark = "..."

func (f *backupFlags) take() *cobra.Command {
	var verify string
	c := &cobra.Command{Use: "take NAME --to DESTINATION --endpoints URL,...", Short: "Take a backup of a running cluster"}
	f.storeFlags(c.Flags(), "to", "Where the backup goes")
	f.memberFlags(c.Flags())
	c.Flags().StringVar(&f.codec.Compression, "compression", backup.CompressionZstd, "zstd or none.")
	c.Flags().StringVar(&f.codec.RecipientsFile, "age-recipients-file", "", "age recipients to encrypt the backup to, one a line.")
	f.identityFlag(c.Flags())
	f.scratchFlag(c.Flags())
	f.clusterFlag(c.Flags())
	c.Flags().StringVar(&verify, "verify", "", "Read the backup back: checksum, or restore-test, which starts a server on it.")
	c.RunE = f.run(1, func(ctx context.Context, _ *cobra.Command, args []string) (*backupResult, error) {
		logger, err := stderrLogger(f.logLevel)
		if err != nil {
			return nil, usage(err)
		}
		m, err := backup.Take(ctx, backup.TakeOptions{
			Name: args[0], To: f.location, Members: f.members, Codec: f.codec, Verify: verify,
			Scratch: f.scratch, ClusterID: f.clusterID, Logger: logger,
		})
		return &backupResult{Manifest: m}, err
	})
	return c
}

func (f *backupFlags) verify() *cobra.Command {
	var restoreTest, etcdSnapshot bool
	c := &cobra.Command{Use: "verify NAME --from DESTINATION", Short: "Read a whole backup and compare it with its manifest"}
	f.storeFlags(c.Flags(), "from", "Where the backup is")
	f.identityFlag(c.Flags())
	f.scratchFlag(c.Flags())
	f.clusterFlag(c.Flags())
	c.Flags().BoolVar(&restoreTest, "restore-test", false, "Start a server on it and compare what that holds.")
	c.Flags().BoolVar(&etcdSnapshot, "etcd-snapshot", false, "NAME is a bare snapshot file of etcd or MetaStore.")
	c.RunE = f.run(1, func(ctx context.Context, _ *cobra.Command, args []string) (*backupResult, error) {
		logger, err := stderrLogger(f.logLevel)
		if err != nil {
			return nil, usage(err)
		}
		m, err := backup.Verify(ctx, backup.VerifyOptions{
			Name: args[0], From: f.location, Codec: f.codec, RestoreTest: restoreTest, EtcdSnapshot: etcdSnapshot,
			Scratch: f.scratch, ClusterID: f.clusterID, Logger: logger,
		})
		return &backupResult{Manifest: m}, err
	})
	return c
}

func (f *backupFlags) restore() *cobra.Command {
	o := backup.RestoreOptions{Member: node.DefaultConfig()}
	m := &o.Member
	var peerURLs string
	var markCompacted bool
	c := &cobra.Command{Use: "restore NAME --from DESTINATION --data-dir DIR", Short: "Make a member's data dir from a backup"}
	f.storeFlags(c.Flags(), "from", "Where the backup is")
	f.identityFlag(c.Flags())
	f.clusterFlag(c.Flags())
	fs := c.Flags()
	fs.StringVar(&m.DataDir, "data-dir", "", "Data dir to make; its folder needs room for two more of it.")
	fs.StringVar(&m.Name, "name", m.Name, "Human-readable name for this member.")
	fs.StringVar(&m.StorageEngine, "storage-engine", m.StorageEngine, "rocksdb or memory.")
	fs.StringVar(&m.InitialCluster, "initial-cluster", "", "Members of the new cluster, as name=URL pairs; this member alone when not given.")
	fs.StringVar(&m.InitialClusterToken, "initial-cluster-token", m.InitialClusterToken, "Token of the new cluster.")
	fs.StringVar(&peerURLs, "initial-advertise-peer-urls", "http://localhost:2380", "This member's peer URLs.")
	fs.Uint64Var(&o.BumpRevision, "bump-revision", 0, "Revisions to add to the newest one; goes with --mark-compacted.")
	fs.BoolVar(&markCompacted, "mark-compacted", false, "Mark the newest revision as compacted; goes with --bump-revision.")
	fs.StringVar(&o.Once, "once", "", "Word of this restore: the data dir may exist and is kept beside; repeating it is safe.")
	fs.BoolVar(&o.EtcdSnapshot, "etcd-snapshot", false, "NAME is a bare snapshot file of etcd or MetaStore.")
	c.RunE = f.run(1, func(ctx context.Context, _ *cobra.Command, args []string) (_ *backupResult, err error) {
		if markCompacted != (o.BumpRevision > 0) {
			return nil, usage(errors.New("--mark-compacted and a --bump-revision above 0 go together: give both or none"))
		}
		if m.AdvertisePeerURLs, err = node.ParseURLs("initial-advertise-peer-urls", peerURLs); err != nil {
			return nil, usage(err)
		}
		if m.Logger, err = stderrLogger(f.logLevel); err != nil {
			return nil, usage(err)
		}
		o.Name, o.From, o.Codec, o.ClusterID, o.Logger = args[0], f.location, f.codec, f.clusterID, m.Logger
		done, err := backup.Restore(ctx, o)
		if err != nil {
			return nil, err
		}
		return &backupResult{Manifest: done.Manifest, Revision: done.Revision}, nil
	})
	return c
}

func (f *backupFlags) onceCommand(c *cobra.Command, work func(dir, once string) error) *cobra.Command {
	var dir string
	c.Flags().StringVar(&dir, "data-dir", "", "Data dir of the restore.")
	c.Flags().StringVar(&f.once, "once", "", "Word of the restore.")
	c.RunE = f.run(0, func(context.Context, *cobra.Command, []string) (*backupResult, error) {
		return nil, work(dir, f.once)
	})
	return c
}

func (f *backupFlags) undo() *cobra.Command {
	return f.onceCommand(&cobra.Command{Use: "undo --data-dir DIR --once WORD", Short: "Put the data dir back that a restore has replaced"}, backup.Undo)
}

func (f *backupFlags) finished() *cobra.Command {
	return f.onceCommand(&cobra.Command{Use: "finish --data-dir DIR --once WORD", Short: "Delete the data dir that a restore has replaced"}, backup.Finish)
}

func (f *backupFlags) remove() *cobra.Command {
	c := &cobra.Command{Use: "delete NAME --from DESTINATION", Short: "Delete a backup"}
	f.storeFlags(c.Flags(), "from", "Where the backup is")
	c.RunE = f.run(1, func(ctx context.Context, _ *cobra.Command, args []string) (*backupResult, error) {
		return nil, backup.Delete(ctx, args[0], f.location)
	})
	return c
}

func (f *backupFlags) list() *cobra.Command {
	c := &cobra.Command{Use: "list --from DESTINATION", Short: "List backups"}
	f.storeFlags(c.Flags(), "from", "Where the backups are")
	c.Flags().StringVarP(&f.format, "write-out", "w", "simple", "simple or json.")
	c.RunE = f.run(0, func(ctx context.Context, cmd *cobra.Command, _ []string) (*backupResult, error) {
		if f.format != "simple" && f.format != "json" {
			return nil, usage(fmt.Errorf("--write-out=%s is not valid: simple or json is allowed", f.format))
		}
		logger, err := stderrLogger(f.logLevel)
		if err != nil {
			return nil, usage(err)
		}
		all, err := backup.List(ctx, f.location, logger)
		if err != nil {
			return nil, err
		}
		if f.format == "json" {
			return nil, json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"backups": all})
		}
		return nil, printBackups(cmd.OutOrStdout(), all)
	})
	return c
}

func printBackups(out io.Writer, all []*backup.Manifest) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tCREATED\tCLUSTER\tREVISION\tKEYS\tSIZE\tSTORED\tENCRYPTION\tVERIFIED") // Flush has the error
	for _, m := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", m.Name, m.CreatedAt.Format(time.RFC3339), m.ClusterID, m.Revision, m.Keys,
			humanize.Bytes(uint64(m.SnapshotBytes)), humanize.Bytes(uint64(m.StoredBytes)), orDash(m.Encryption), orDash(m.Verified))
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Command metastore-operator runs the operator: one manager with the controllers
// of all kinds. It owns the flags and nothing else; what the operator
// does is in the packages below operator.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"
	_ "time/tzdata" // for schedules: the image has no files of time zones

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
	"metastore.io/metastore/operator/controller"
	"metastore.io/metastore/operator/member"
	"metastore.io/metastore/operator/pki"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
	"metastore.io/metastore/operator/restore"
)

// leaderElectionID names the lease that one of several operators holds.
const leaderElectionID = "metastore-operator.metastore.io"

// options are the flags.
type options struct {
	leaderElect   bool
	metricsAddr   string
	probeAddr     string
	namespace     string
	serverImage   string
	concurrency   int
	memberTimeout time.Duration
	logLevel      string
}

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "metastore-operator:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:           "metastore-operator",
		Short:         "Runs MetaStore clusters on Kubernetes",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(*cobra.Command, []string) error { return run(o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.leaderElect, "leader-elect", false, "let one of several operators act at a time")
	f.StringVar(&o.metricsAddr, "metrics-bind-address", ":8080", "address of the metrics endpoint; 0 turns it off")
	f.StringVar(&o.probeAddr, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	f.StringVar(&o.namespace, "namespace", "", "the namespace to look after; empty is all of them")
	f.StringVar(&o.serverImage, "server-image", resources.DefaultServerImage, "image of members whose spec names none")
	f.IntVar(&o.concurrency, "concurrency", 4, "clusters that are reconciled at a time")
	f.DurationVar(&o.memberTimeout, "member-timeout", 2*time.Second, "time that the members of a cluster have to answer")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func run(o options) error {
	if o.concurrency < 1 {
		return fmt.Errorf("--concurrency is %d; allowed is 1 or more", o.concurrency)
	}
	if o.memberTimeout <= 0 {
		return fmt.Errorf("--member-timeout is %s; allowed is more than 0s", o.memberTimeout)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return fmt.Errorf("--log-level is %s; allowed are debug, info, warn and error", o.logLevel)
	}
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	mgr, err := ctrl.NewManager(config, managerOptions(o))
	if err != nil {
		return fmt.Errorf("create manager: %w", err)
	}
	if err := setup(mgr, o); err != nil {
		return err
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}

func managerOptions(o options) ctrl.Options {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic("register kinds: " + err.Error()) // only ever a mistake in the code
		}
	}
	return ctrl.Options{
		Scheme:                        scheme,
		Cache:                         controller.CacheOptions(o.namespace),
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddr},
		HealthProbeBindAddress:        o.probeAddr,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              leaderElectionID,
		LeaderElectionReleaseOnCancel: true, // the process ends right after
	}
}

func setup(mgr ctrl.Manager, o options) error {
	members := member.NewEtcd(member.Options{LookTimeout: o.memberTimeout})
	r := &controller.Reconciler{
		Client: mgr.GetClient(),
		Live:   mgr.GetAPIReader(),
		Members: func(_ *v1alpha1.MetaStoreCluster, c member.Credentials) member.Access {
			return members.With(c)
		},
		Certificates: pki.DefaultLifetimes(),
		Events:       mgr.GetEventRecorder("metastore-operator"),
		ServerImage:  o.serverImage,
		Limits:       plan.DefaultLimits(),
		Pace:         controller.DefaultPace(),
		Now:          time.Now,
		Concurrency:  o.concurrency,
	}
	if err := r.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up controller: %w", err)
	}
	if err := setupBackups(mgr, o); err != nil {
		return err
	}
	restores := &controller.RestoreReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: mgr.GetEventRecorder("metastore-operator"),
		ServerImage: o.serverImage, Limits: restore.DefaultLimits(), Pace: controller.DefaultPace(), Now: time.Now,
		Concurrency: o.concurrency,
	}
	if err := restores.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the controller of restores: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("set up healthz: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("set up readyz: %w", err)
	}
	return nil
}

func setupBackups(mgr ctrl.Manager, o options) error {
	backups := &controller.BackupReconciler{
		Client:      mgr.GetClient(),
		Live:        mgr.GetAPIReader(),
		Events:      mgr.GetEventRecorder("metastore-operator"),
		ServerImage: o.serverImage,
		Limits:      backup.DefaultLimits(),
		Pace:        controller.DefaultPace(),
		Now:         time.Now,
		Concurrency: o.concurrency,
	}
	if err := backups.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the controller of backups: %w", err)
	}
	schedules := &controller.ScheduleReconciler{
		Client:      mgr.GetClient(),
		Live:        mgr.GetAPIReader(),
		Events:      mgr.GetEventRecorder("metastore-operator"),
		Pace:        controller.DefaultPace(),
		Now:         time.Now,
		Concurrency: o.concurrency,
	}
	if err := schedules.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the controller of schedules: %w", err)
	}
	return nil
}

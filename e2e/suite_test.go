// Package e2e holds the specs that run against a real Kubernetes with real
// pods. `make e2e` provides the Kubernetes, the images and the environment
// described at environment; without that the suite skips itself.
package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/klog/v2"
)

// How long things may take on a small, busy machine. They are limits, not
// waits: a spec goes on as soon as the thing is there.
const (
	readyTimeout    = 4 * time.Minute
	nodeTimeout     = 2 * time.Minute
	progressTimeout = time.Minute
	pollInterval    = 500 * time.Millisecond
)

// env is set once, before the first spec.
var env *environment

func TestE2E(t *testing.T) {
	if os.Getenv("METASTORE_E2E") == "" {
		t.Skip("needs a Kubernetes with the project's images on it: run `make e2e`")
	}
	RegisterFailHandler(Fail)
	klog.SetLogger(GinkgoLogr) // what client-go says of forwarded connections belongs to the spec
	SetDefaultEventuallyPollingInterval(pollInterval)
	RunSpecs(t, "MetaStore on Kubernetes")
}

var _ = BeforeSuite(func(ctx context.Context) {
	env = newEnvironment()
	By("installing CRDs and operator from config/default")
	env.installOperator(ctx)
}, NodeTimeout(5*time.Minute))

var _ = AfterSuite(func(ctx context.Context) {
	if env != nil && os.Getenv("KEEP") != "1" {
		env.removeOperator(ctx)
	}
}, NodeTimeout(3*time.Minute))

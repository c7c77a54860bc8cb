package main

import (
	"fmt"
	"regexp"
	"time"
)

// module is a Go module at the version whose tests are run, with the hash that
// its archive has to have.
type module struct {
	path, version, sum string
}

var (
	etcdTests = module{"go.etcd.io/etcd/tests/v3", "v3.7.3", "h1:zQEpHCKe1ZGEL67G4B/dvNXH7hZcP0BQM90ltrwecR4="}
	apiserver = module{"k8s.io/apiserver", "v0.37.2", "h1:9Jq73PeHAA0RThpW7ou6lBcO2+SxLcPrAgleONSMUNQ="}
)

// suite is one package of tests.
type suite struct {
	name string
	from module
	// dir is the package's folder in the module, tags what it is built with.
	dir, tags string
	// tests is how many top-level tests it has: one that vanishes is noticed.
	tests int
	// timeout bounds one test.
	timeout time.Duration
	// etcdBins: the tests start the binaries of a folder that they are given.
	etcdBins bool
	env      []string
	// fast are the tests of the subset for every change.
	fast string
}

var suites = []suite{
	{
		name: "common", from: etcdTests, dir: "common", tags: "e2e", tests: 95, timeout: 10 * time.Minute, etcdBins: true,
		// Of each test's kinds of cluster, the two that differ most.
		env: []string{"E2E_TEST_MINIMAL=true"},
	},
	{name: "e2e", from: etcdTests, dir: "e2e", tests: 220, timeout: 5 * time.Minute, etcdBins: true},
	{name: "etcd3", from: apiserver, dir: "pkg/storage/etcd3", tests: 70, timeout: 10 * time.Minute},
	{name: "factory", from: apiserver, dir: "pkg/storage/storagebackend/factory", tests: 6, timeout: 10 * time.Minute},
}

// groups name parts of the suites; what they leave is still run without a group.
var groups = map[string]string{
	"kv":        `TestCtlV3(Put|Get(Timeout|Format|Rev|MinMax|KeysOnly|CountOnly)|DelTimeout|Serializable|Linearizable|Version|DialWith|RoleAdd|Completion).*|TestUtlV3CompletionBash|TestTxnRangeConsistency|TestClusterVersion`,
	"watch":     `Test.*Watch.*`,
	"lease":     `Test.*Lease.*`,
	"auth":      `Test.*Auth.*`,
	"member":    `Test.*(Member|MoveLeader|RuntimeReconfig|ForceNewCluster|Reproduce20340|InPlaceRecovery).*`,
	"curl":      `TestCurl.*`,
	"config":    `TestEtcd.*|TestGrpcproxyAnd.*|TestBootstrapDefragFlag|TestSnapshotCatchupEntriesFlag`,
	"health":    `TestHTTP.*|TestGracefulShutdown|TestNoErrorLogs.*|TestServerJsonLogging|TestConnection.*|TestWarningApplyDuration`,
	"metrics":   `TestV3(Metrics|Learner).*|TestNoMetricsMissing`,
	"snapshot":  `Test.*Snapshot.*|TestIssue6361|TestRestoreCompactionRevBump`,
	"proxy":     `TestGrpcProxy.*|TestGateway`,
	"discovery": `TestClusterOf.*V3Discovery.*|TestTLSClusterOf5.*`,
	"crl":       `TestCtlV3GetRevoked.*`,
}

// selection is which tests of a suite are wanted; nil for all.
func selection(group, pattern string) (*regexp.Regexp, error) {
	switch {
	case group != "" && pattern != "":
		return nil, fmt.Errorf("a group and a pattern at once")
	case group != "":
		p, ok := groups[group]
		if !ok {
			return nil, fmt.Errorf("no such group: %s", group)
		}
		return regexp.Compile(`^(` + p + `)$`)
	case pattern != "":
		return regexp.Compile(pattern)
	}
	return nil, nil
}

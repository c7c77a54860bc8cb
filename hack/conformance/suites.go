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
	// fastEnv makes the tests of the subset for every change shorter.
	fastEnv []string
	// fast are the tests of the subset for every change, without those of slow,
	// which take long or have limits of a few seconds that a busy machine breaks.
	fast, slow string
}

var suites = []suite{
	{
		name: "common", from: etcdTests, dir: "common", tags: "e2e", tests: 95, timeout: 10 * time.Minute, etcdBins: true,
		// On two kinds of cluster each, not three: without automatic TLS.
		fastEnv: []string{"E2E_TEST_MINIMAL=true"},
		fast:    `Test.*`,
		slow:    `TestAuthority|TestMember(Add|Remove)|TestVerifyHashKV.*|TestUserAdd_Simple|TestAuthJWTExpire|TestLeaseGrantTimeToLiveExpired|TestLeaseGrantAndList|TestAuthMemberAdd|Test.*With(Root|User|No|Invalid)Auth`,
	},
	{
		name: "e2e", from: etcdTests, dir: "e2e", tests: 220, timeout: 5 * time.Minute, etcdBins: true,
		fast: groups["kv"] + `|TestCurlV3(KV|Watch|Lease|Lock|Election|Txn|Cluster|Maintenance(Hash|Status|Alarm)|Auth).*|TestHTTP.*|TestCtlV3(Watch|Lease|Elect|Snapshot)[A-Za-z]*`,
		slow: `TestClusterVersion|TestCtlV3(Serializable|Linearizable)Read|TestCtlV3Lease.*TimeTo.*`,
	},
	{
		name: "etcd3", from: apiserver, dir: "pkg/storage/etcd3", tests: 70, timeout: 10 * time.Minute,
		fast: `Test.*`,
		slow: `TestWatch|TestCompact|Test(Create(Ready|Health)|RateLimitHealth|TimeTravelHealth)check|TestWatchChanSync`,
	},
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

// whole matches whole names.
func whole(pattern string) (*regexp.Regexp, error) { return regexp.Compile(`^(` + pattern + `)$`) }

// isFast tells the tests of the subset for every change.
func (s suite) isFast() (func(name string) bool, error) {
	fast, err := whole(s.fast)
	if err != nil {
		return nil, err
	}
	slow, err := whole(s.slow)
	if err != nil {
		return nil, err
	}
	return func(name string) bool { return fast.MatchString(name) && !slow.MatchString(name) }, nil
}

// selection tells the tests of a group, those that match a pattern, or all.
func selection(group, pattern string) (func(name string) bool, error) {
	var (
		re  *regexp.Regexp
		err error
	)
	switch {
	case group != "" && pattern != "":
		return nil, fmt.Errorf("a group and a pattern at once")
	case group != "":
		p, ok := groups[group]
		if !ok {
			return nil, fmt.Errorf("no such group: %s", group)
		}
		re, err = whole(p)
	default:
		re, err = regexp.Compile(pattern)
	}
	if err != nil {
		return nil, err
	}
	return re.MatchString, nil
}

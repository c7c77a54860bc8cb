// Command conformance judges a server binary by test suites that were not
// written here: etcd's own (module go.etcd.io/etcd/tests/v3) and those of
// Kubernetes' storage layer (module k8s.io/apiserver). `make conformance` runs
// it.
//
// The modules come through the ordinary Go client, at pinned versions whose
// hashes are checked. Copies of them in the cache are edited by script (edit.go),
// compiled, and each top-level test runs by itself: in network, process, IPC and
// mount namespaces of its own, so that tests with fixed ports run side by side,
// a leaked process ends with its test, and a panic fails one test only. A test
// that fails gets one more try.
//
// What is left out stands in left-out.txt, each with its reason; everything else
// has to pass. A test that skips itself without standing there, a name there that
// no test has, and a suite with another number of tests than is written in
// suites.go all fail the run.
package main

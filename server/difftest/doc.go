// Package difftest plays the same requests to a real etcd and to a member of
// each engine, and wants the same answers: a long random workload, requests
// that no client should send, and what clients of all kinds put on the wire.
//
// It holds tests only. All servers run in the test's process, with their data
// in memory where the system has a place for that.
package difftest

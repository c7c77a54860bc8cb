package main

import (
	"context"
	"strings"
)

// workload is a scenario of metastore bench with flags.
type workload struct {
	name  string
	short bool // part of the short profile
	flags string
}

var workloads = []workload{
	{"put-1", true, "put --in-flight=1"},
	{"put-64", true, "put --in-flight=64 --connections=8"},
	{"put-1000", true, "put --in-flight=1000 --connections=100"},
	{"get-1000", true, "get --in-flight=1000 --connections=100"},
	{"get-serializable-1000", true, "get --serializable --in-flight=1000 --connections=100"},
	{"range-10000", true, "range --in-flight=4 --connections=4 --range-size=10000"},
	{"range-keys-only", false, "range --in-flight=16 --connections=4 --range-size=1000 --keys-only"},
	{"range-stream", false, "range --in-flight=4 --connections=4 --range-size=10000 --stream"},
	{"count", false, "range --in-flight=4 --connections=4 --key-space=100000 --count-only --whole-prefix"},
	{"count-1m", false, "range --in-flight=4 --connections=4 --key-space=1000000 --count-only --whole-prefix"},
	{"txn-64", false, "txn --in-flight=64 --connections=8"},
	{"txn-mixed", true, "txn-mixed --in-flight=256 --connections=16"},
	{"delete", false, "delete --in-flight=256 --connections=16 --key-space=100000"},
	{"watch", true, "watch --in-flight=16 --watchers=100 --streams=10"},
	{"watch-1000", false, "watch --in-flight=16 --watchers=1000 --streams=100"},
	{"restart-1m", false, "range --in-flight=1 --key-space=1000000 --range-size=1 --count=1"},
	{"costs", false, "put --in-flight=64 --connections=8 --count=100000"},
	{"failover", false, "put --in-flight=1 --count=100"},
	{"watch-lag", false, "watch-lag --in-flight=64 --connections=8 --behind=50000"},
	{"watch-lag-500k", false, "watch-lag --in-flight=64 --connections=8 --behind=500000"},
	{"snapshot-1m", false, "snapshot --in-flight=64 --connections=8 --key-space=1000000"},
	{"lease-grant", false, "lease-grant --in-flight=64 --connections=8"},
	{"lease-keepalive", true, "lease-keepalive --in-flight=256 --connections=16"},
	{"lease-expiry", false, "lease-expiry --leases=10000 --ttl=20"},
	{"lease-expiry-100k", false, "lease-expiry --in-flight=16 --connections=4 --leases=100000 --key-space=110000 --ttl=30"},
	{"kubernetes", true, "kubernetes --in-flight=64 --connections=8"},
}

// behind is what is measured behind the load; nil for nothing.
func behind(workload string) func(context.Context, []*member) ([]figure, error) {
	switch {
	case strings.HasPrefix(workload, "restart-"):
		return restart
	case workload == "failover":
		return failover
	case workload == "costs":
		return costs
	}
	return nil
}

// workloadNames are all, or those of the short profile.
func workloadNames(short bool) (names []string) {
	for _, w := range workloads {
		if w.short || !short {
			names = append(names, w.name)
		}
	}
	return names
}

// chosen reads what the flag says.
func chosen(list string) []string {
	switch list {
	case "short", "":
		return workloadNames(true)
	case "all":
		return workloadNames(false)
	}
	return strings.Split(list, ",")
}

// arguments are the command line of metastore for a workload.
func arguments(name string) []string {
	for _, w := range workloads {
		if w.name == name {
			return append([]string{"bench"}, strings.Fields(w.flags)...)
		}
	}
	return nil
}

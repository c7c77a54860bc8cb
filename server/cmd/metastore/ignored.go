package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// An ignoredFlag is one of etcd's that is taken and has no effect here: what it
// defaults to, whose type is the flag's, and why nothing depends on it.
type ignoredFlag struct {
	value any
	why   string
}

var ignored = map[string]ignoredFlag{
	"backend-batch-interval":            {time.Duration(0), "commands are batched by how long a sync of the log takes"},
	"backend-batch-limit":               {0, "commands are batched by how long a sync of the log takes"},
	"backend-bbolt-freelist-type":       {"", "there is no bbolt"},
	"compaction-batch-limit":            {0, "compaction goes in small steps that stop for writes"},
	"compaction-sleep-interval":         {time.Duration(0), "compaction goes in small steps that stop for writes"},
	"discovery-fallback":                {"exit", "etcd has no other choice left"},
	"distributed-tracing-address":       {"localhost:4317", "no spans are made"},
	"distributed-tracing-instance-id":   {"", "no spans are made"},
	"distributed-tracing-sampling-rate": {0, "no spans are made"},
	"distributed-tracing-service-name":  {"etcd", "no spans are made"},
	"downgrade-check-time":              {5 * time.Second, "there is no downgrade to watch over"},
	"enable-distributed-tracing":        {false, "no spans are made"},
	"logger":                            {"zap", "etcd has no other choice left"},
	"max-snapshots":                     {uint(5), "a snapshot is deleted as soon as the next one is durable"},
	"max-wals":                          {uint(5), "segments of the log are used again as soon as nobody needs them"},
	"memory-mlock":                      {false, "no database is mapped into memory"},
	"raft-read-timeout":                 {5 * time.Second, "a peer that is silent is noticed after 3 s"},
	"raft-write-timeout":                {5 * time.Second, "a peer that does not read is given up after 5 s"},
	"unsafe-no-fsync":                   {false, "nothing is acknowledged before it is durable"},
	"v2-deprecation":                    {"write-only", "there is no v2 store; etcd ignores it, too"},
	"wal-dir":                           {"", "the log lies in the data dir, whose lock and marker guard both"},
}

// deprecated flags are warned about in etcd's words.
var deprecated = map[string]string{
	"max-snapshots":  "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
	"v2-deprecation": "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.",
}

// retired flags are those that etcd itself ignores, however they are given.
var retired = []string{
	"cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force", "max-result-buffer",
	"max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout", "retry-interval", "snapshot", "v", "vv",
	"test.coverprofile", "test.outputdir",
}

// retiredKeys were in the config files of etcd's earlier releases; those of now
// ignore them.
var retiredKeys = []string{
	"discovery", "discovery-proxy", "enable-v2", "proxy", "proxy-dial-timeout", "proxy-failure-wait",
	"proxy-read-timeout", "proxy-refresh-interval", "proxy-write-timeout",
}

func registerIgnored(fs *pflag.FlagSet) {
	for _, name := range slices.Sorted(maps.Keys(ignored)) {
		f := ignored[name]
		usage := "Taken for etcd's sake and without effect: " + f.why + "."
		switch v := f.value.(type) {
		case bool:
			fs.Bool(name, v, usage)
		case int:
			fs.Int(name, v, usage)
		case uint:
			fs.Uint(name, v, usage)
		case time.Duration:
			fs.Duration(name, v, usage)
		case string:
			fs.String(name, v, usage)
		default:
			panic(fmt.Sprintf("flag %s has the type %T", name, v))
		}
	}
	for _, name := range retired {
		fs.String(name, "", "")
		fs.Lookup(name).NoOptDefVal = "true"
		fs.Lookup(name).Hidden = true
	}
}

// checkIgnored refuses what etcd would.
func checkIgnored(fs *pflag.FlagSet) error {
	var errs []error
	for name, allowed := range map[string][]string{
		"logger":                      {"zap"},
		"discovery-fallback":          {"exit"},
		"backend-bbolt-freelist-type": {"map", "array", ""},
		"v2-deprecation":              {"write-only", "write-only-skip-check", "write-only-drop-data", "gone"},
	} {
		if v := fs.Lookup(name).Value.String(); !slices.Contains(allowed, v) {
			errs = append(errs, refuse(name, v, strings.Join(slices.DeleteFunc(allowed, func(s string) bool { return s == "" }), ", ")))
		}
	}
	const million = 1_000_000
	on, _ := fs.GetBool("enable-distributed-tracing")
	if rate, err := fs.GetInt("distributed-tracing-sampling-rate"); on && (err != nil || rate < 0 || rate > million) {
		errs = append(errs, refuse("distributed-tracing-sampling-rate", rate, fmt.Sprintf("0 to %d", million)))
	}
	return errors.Join(errs...)
}

func refuse(flag string, value any, allowed string) error {
	return fmt.Errorf("--%s=%v is not valid: %s is allowed", flag, value, allowed)
}

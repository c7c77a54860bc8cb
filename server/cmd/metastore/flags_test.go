package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"

	"metastore.io/metastore/server/node"
)

// etcdFlags are those of a real etcd: embed's and the few that its main adds.
func etcdFlags() *flag.FlagSet {
	fs := flag.NewFlagSet("etcd", flag.ContinueOnError)
	embed.NewConfig().AddFlags(fs)
	fs.String("config-file", "", "")
	fs.String("discovery-fallback", "exit", "")
	fs.String("initial-cluster-state", "new", "")
	fs.String("v2-deprecation", "", "")
	return fs
}

// otherDefaults are the flags whose default is not etcd's, and why.
var otherDefaults = map[string]string{
	"initial-cluster": "made of the name and the advertised URLs, whatever they are",
	"v2-deprecation":  "etcd shows none and enforces this one",

	"watch-progress-notify-interval": "etcd takes its 0 for these ten minutes, as it is taken here",
}

func TestEveryFlagOfEtcd(t *testing.T) {
	mine := newRoot().Flags()
	n := 0
	etcdFlags().VisitAll(func(f *flag.Flag) {
		n++
		m := mine.Lookup(f.Name)
		if m == nil {
			t.Errorf("--%s is not taken", f.Name)
			return
		}
		b, ok := f.Value.(interface{ IsBoolFlag() bool })
		if isBool := ok && b.IsBoolFlag(); isBool != (m.Value.Type() == "bool") {
			t.Errorf("--%s is of type %s; in etcd it may stand alone: %v", f.Name, m.Value.Type(), isBool)
		}
		if _, ok := otherDefaults[f.Name]; !ok && m.DefValue != f.DefValue {
			t.Errorf("--%s=%s by default, in etcd %s", f.Name, m.DefValue, f.DefValue)
		}
	})
	if n < 110 {
		t.Errorf("only %d flags of etcd found: the test looks in the wrong place", n)
	}
}

// Every flag of etcd is taken from the command line in both forms, from the
// environment, and as a key of the config file.
func TestEveryFlagFromEverywhere(t *testing.T) {
	etcdFlags().VisitAll(func(f *flag.Flag) {
		if f.Name == "config-file" {
			return
		}
		value := f.DefValue
		switch {
		case f.Name == "v2-deprecation":
			value = "gone"
		case value == "":
			value = sample(f.Name)
		}
		for form, arg := range map[string]string{"--": "--" + f.Name + "=" + value, "-": "-" + f.Name + "=" + value} {
			_, fs := newFlags()
			if err := fs.Parse(twoDashes(fs, []string{arg})); err != nil || !fs.Changed(f.Name) {
				t.Errorf("%s%s: %v", form, f.Name, err)
			}
		}
		t.Run(f.Name, func(t *testing.T) {
			t.Setenv(variable(f.Name), value)
			fl, fs := newFlags()
			if err := fl.readEnvironment(fs); err != nil || !fs.Changed(f.Name) {
				t.Errorf("from the environment: %v", err)
			}
			file := filepath.Join(t.TempDir(), "c.yaml")
			text := f.Name + ": " + value + "\n"
			if fs.Lookup(f.Name).Value.Type() == "string" {
				text = fmt.Sprintf("%s: %q\n", f.Name, value)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			fl, fs = newFlags()
			if err := fl.readConfigFile(fs, file); err != nil || !fs.Changed(f.Name) {
				t.Errorf("from the file %q: %v", text, err)
			}
		})
	})
}

// sample is some value of a flag that has none by default.
func sample(name string) string {
	switch {
	case strings.HasSuffix(name, "urls"):
		return "http://127.0.0.1:1"
	case name == "feature-gates":
		return "AllAlpha=false"
	}
	return "x"
}

func newFlags() (*flags, *pflag.FlagSet) {
	f := &flags{}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.register(fs)
	return f, fs
}

func TestTwoDashes(t *testing.T) {
	_, fs := newFlags()
	for _, c := range []struct{ in, want []string }{
		{[]string{"-name", "a"}, []string{"--name", "a"}},
		{[]string{"-name=a", "--data-dir", "-d"}, []string{"--name=a", "--data-dir", "-d"}},
		{[]string{"--name", "-name", "-pre-vote", "-name", "b"}, []string{"--name", "-name", "--pre-vote", "--name", "b"}},
		{[]string{"-v", "-vv"}, []string{"--v", "--vv"}},
		{[]string{"-no-such", "-name"}, []string{"-no-such", "--name"}},
		{[]string{"--", "-name"}, []string{"--", "-name"}},
		{nil, []string{}},
	} {
		if got := twoDashes(fs, c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
	}
}

// build is the config that command line and file make.
func build(t *testing.T, args []string, file string) (node.Config, error) {
	t.Helper()
	f, fs := newFlags()
	args = append([]string{"--log-outputs=/dev/null"}, args...)
	if file != "" {
		name := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(name, []byte("log-outputs: [/dev/null]\n"+file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config-file="+name)
	}
	if err := fs.Parse(args); err != nil {
		return node.Config{}, err
	}
	return f.config(fs)
}

func TestConfigFileSections(t *testing.T) {
	c, err := build(t, []string{"--name=from-the-command-line", "--storage-engine=memory", "--max-learners=9"}, `
name: from-the-file
heartbeat-interval: 50
max-concurrent-streams: 7
pre-vote: off
watch-progress-notify-interval: 600000000000
warning-apply-duration: 2s
auto-compaction-retention: 5
enable-pprof: true
cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]
feature-gates: StopGRPCServiceOnDefrag=true,CompactHashCheck=true
cors: http://a.test:80,http://b.test:80
host-whitelist: a.test
listen-metrics-urls: ''
initial-cluster:
proxy: 'off'
socket-options:
  reuse-port: true
client-transport-security:
  cert-file: c.crt
  key-file: c.key
  client-cert-file: cc.crt
  client-key-file: cc.key
  client-cert-auth: true
  trusted-ca-file: ca.crt
  auto-tls: false
  allowed-cn: [x, y]
peer-transport-security:
  cert-file: p.crt
  key-file: p.key
  client-cert-file: pc.crt
  client-key-file: pc.key
  client-cert-auth: true
  trusted-ca-file: pca.crt
  allowed-hostname: [a.test, b.test]
  skip-client-san-verification: true
`)
	if err != nil {
		t.Fatal(err)
	}
	client, peer := c.ClientTLS, c.PeerTLS
	for what, got := range map[string][2]any{
		"name":           {c.Name, "from-the-file"},
		"engine":         {c.StorageEngine, node.EngineMemory},
		"learners":       {c.MaxLearners, 1},
		"heartbeat":      {c.HeartbeatMillis, uint(50)},
		"streams":        {c.MaxConcurrentStreams, uint32(7)},
		"pre-vote":       {c.PreVote, false},
		"progress":       {c.WatchProgressInterval, 10 * time.Minute},
		"warning":        {c.WarnApplyAfter, 2 * time.Second},
		"retention":      {c.AutoCompactionSetting, "5"},
		"pprof":          {c.EnablePprof, true},
		"suites":         {len(c.CipherSuites), 2},
		"gate":           {c.Features.Enabled(node.StopGRPCServiceOnDefrag), true},
		"gate untouched": {c.Features.Enabled(node.InitialCorruptCheck), false},
		"origins":        {c.CORS, []string{"http://a.test:80", "http://b.test:80"}},
		"hosts":          {c.HostWhitelist, []string{"a.test"}},
		"port reuse":     {c.Socket.ReusePort, true},
		"client files":   {[]string{client.CertFile, client.KeyFile, client.ClientCertFile, client.ClientKeyFile, client.TrustedCAFile}, []string{"c.crt", "c.key", "cc.crt", "cc.key", "ca.crt"}},
		"client auth":    {client.ClientCertAuth, true},
		"client names":   {client.AllowedCNs, []string{"x", "y"}},
		"peer files":     {[]string{peer.CertFile, peer.KeyFile, peer.ClientCertFile, peer.ClientKeyFile, peer.TrustedCAFile}, []string{"p.crt", "p.key", "pc.crt", "pc.key", "pca.crt"}},
		"peer hosts":     {peer.AllowedHostnames, []string{"a.test", "b.test"}},
		"peer addresses": {peer.SkipClientSANVerify, true},
		"default":        {c.ElectionMillis, uint(1000)},
	} {
		if !reflect.DeepEqual(got[0], got[1]) {
			t.Errorf("%s: %v, want %v", what, got[0], got[1])
		}
	}
}

func TestDiscoverySection(t *testing.T) {
	c, err := build(t, nil, `
discovery-config:
  token: abc
  client:
    endpoints: [http://127.0.0.1:1, http://127.0.0.1:2]
    dial-timeout: 3000000000
    secure: {insecure-transport: false, cacert: ca.crt}
    auth: {username: u, password: p}
`)
	if err != nil {
		t.Fatal(err)
	}
	d := c.Discovery
	if d.Token != "abc" || len(d.Spec.Endpoints) != 2 || d.Spec.DialTimeout != 3*time.Second ||
		d.Spec.Secure.InsecureTransport || d.Spec.Secure.Cacert != "ca.crt" || d.Spec.Auth.Username != "u" || d.Spec.Auth.Password != "p" {
		t.Errorf("got %+v", d)
	}
}

// What is wrong in a config file is told with the line, the key, the value and
// what is allowed.
func TestBadConfigFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		says []string
	}{
		"no YAML":            {"name: [", []string{"is not YAML"}},
		"no settings":        {"- a\n- b\n", []string{"is not YAML with settings"}},
		"tab":                {"name:\n\tx\n", []string{"is not YAML"}},
		"key twice":          {"name: a\nname: b\n", []string{"is not YAML", "name"}},
		"unknown key":        {"nmae: a\n", []string{"line 2", `"nmae" is not a setting`}},
		"nested unknown key": {"client-transport-security:\n  crt-file: a\n", []string{"line 3", `"client-transport-security.crt-file" is not a setting`}},
		"not in a file":      {"config-file: a\n", []string{`"config-file" is not a setting`}},
		"no section":         {"peer-transport-security: a\n", []string{"peer-transport-security: a is not valid", "section"}},
		"string for number":  {"heartbeat-interval: fast\n", []string{"line 2: heartbeat-interval: fast is not valid", "a whole number"}},
		"fraction":           {"heartbeat-interval: 1.5\n", []string{"heartbeat-interval: 1.5 is not valid"}},
		"negative":           {"heartbeat-interval: -1\n", []string{"heartbeat-interval: -1 is not valid", "not negative"}},
		"too large":          {"max-concurrent-streams: 5000000000\n", []string{"max-concurrent-streams: 5000000000 is not valid"}},
		"number for bool":    {"pre-vote: 1\n", []string{"pre-vote: 1 is not valid", "true or false"}},
		"quoted bool":        {"pre-vote: 'true'\n", []string{"pre-vote: true is not valid", "true or false"}},
		"list for string":    {"name: [a, b]\n", []string{"name: [a, b] is not valid", "a string is allowed"}},
		"map for number":     {"snapshot-count: {a: 1}\n", []string{"snapshot-count: {a: 1} is not valid"}},
		"map in a list":      {"log-outputs: [{a: 1}]\n", []string{"is not YAML", "log-outputs"}},
		"map in a list 2":    {"cipher-suites: [{a: 1}]\n", []string{"cipher-suites: [{a: 1}] is not valid", "a list of strings"}},
		"duration":           {"warning-apply-duration: soon\n", []string{"warning-apply-duration: soon is not valid", "nanoseconds"}},
		"value":              {"tls-min-version: TLS1.1\n", []string{"--tls-min-version=TLS1.1 is not valid: TLS1.2 or TLS1.3 is allowed"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := build(t, nil, c.file)
			if err == nil {
				t.Fatal("it is taken")
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("it says %v; want %q", err, s)
				}
			}
		})
	}
	if _, err := build(t, []string{"--config-file=/no/such/file"}, ""); err == nil || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What is wrong on the command line is told with the flag, the value and what is
// allowed.
func TestBadFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--feature-gates=NoSuch=true"}, "unrecognized feature gate: NoSuch"},
		{[]string{"--feature-gates=CompactHashCheck"}, "missing bool value for CompactHashCheck"},
		{[]string{"--feature-gates=CompactHashCheck=maybe"}, "--feature-gates=CompactHashCheck=maybe is not valid"},
		{[]string{"--feature-gates=LeaseCheckpointPersist=true"}, "it requires LeaseCheckpoint=true"},
		{[]string{"--listen-client-urls=ftp://127.0.0.1:1", "--advertise-client-urls=http://127.0.0.1:1"}, "URLs with the scheme http, https, unix or unixs"},
		{[]string{"--listen-client-urls=http://127.0.0.1:1/x", "--advertise-client-urls=http://127.0.0.1:1"}, "URLs without a path"},
		{[]string{"--listen-client-urls=http://127.0.0.1:1:2", "--advertise-client-urls=http://127.0.0.1:1"}, "--listen-client-urls=http://127.0.0.1:1:2 is not valid"},
		{[]string{"--listen-client-urls=unix://", "--advertise-client-urls=http://127.0.0.1:1"}, "the path of a socket"},
		{[]string{"--listen-client-urls=", "--advertise-client-urls=http://127.0.0.1:1"}, "one URL and more"},
		{[]string{"--advertise-client-urls=http://:2379"}, "URLs with a host"},
		{[]string{"--advertise-client-urls="}, "--advertise-client-urls= is not valid"},
		{[]string{"--initial-advertise-peer-urls=http://:2380"}, "URLs with a host"},
		{[]string{"--listen-metrics-urls=127.0.0.1:1"}, "--listen-metrics-urls=127.0.0.1:1 is not valid"},
		{[]string{"--listen-client-http-urls=http://localhost:2379"}, "an address that --listen-client-urls does not have"},
		{[]string{"--cors=a.test"}, "--cors=a.test is not valid"},
		{[]string{"--heartbeat-interval=0"}, "--heartbeat-interval=0 is not valid"},
		{[]string{"--election-timeout=0"}, "--election-timeout=0 is not valid"},
		{[]string{"--election-timeout=60000"}, "at most 50000 ms"},
		{[]string{"--heartbeat-interval=300"}, "at least five times the heartbeat interval, 1500 ms"},
		{[]string{"--compact-hash-check-time=0s"}, "--compact-hash-check-time=0s is not valid"},
		{[]string{"--max-learners=-1"}, "--max-learners=-1 is not valid: 0 and more is allowed"},
		{[]string{"--metrics=all"}, "--metrics=all is not valid: basic or extensive is allowed"},
		{[]string{"--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"}, "a version up to --tls-max-version=TLS1.2"},
		{[]string{"--tls-max-version=1.2"}, "--tls-max-version=1.2 is not valid"},
		{[]string{"--cipher-suites=NO_SUCH"}, `unexpected TLS cipher suite "NO_SUCH"`},
		{[]string{"--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "--tls-min-version=TLS1.3"}, "whose suites are fixed"},
		{[]string{"--auto-tls", "--self-signed-cert-validity=0"}, "--self-signed-cert-validity=0 is not valid"},
		{[]string{"--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"}, "only one of --peer-cert-allowed-cn"},
		{[]string{"--listen-peer-urls=https://127.0.0.1:1"}, "(--peer-cert-file, --peer-key-file) must be provided"},
		{[]string{"--initial-cluster=default=http://localhost:2380", "--discovery-srv=a.test"}, "only one of --initial-cluster"},
		{[]string{"--discovery-token=a"}, "both --discovery-token and --discovery-endpoints"},
		{[]string{"--discovery-token=a", "--discovery-endpoints=http://a.test:1,"}, "a list without empty endpoints"},
		{[]string{"--discovery-fallback=proxy"}, "--discovery-fallback=proxy is not valid: exit is allowed"},
		{[]string{"--logger=capnslog"}, "--logger=capnslog is not valid: zap is allowed"},
		{[]string{"--v2-deprecation=not-yet"}, "--v2-deprecation=not-yet is not valid"},
		{[]string{"--enable-distributed-tracing", "--distributed-tracing-sampling-rate=1000001"}, "--distributed-tracing-sampling-rate=1000001 is not valid"},
		{[]string{"--max-snapshots=-1"}, `"-1" for "--max-snapshots"`},
		{[]string{"--pre-vote=maybe"}, `"maybe" for "--pre-vote"`},
		{[]string{"--backend-batch-interval=soon"}, `"soon" for "--backend-batch-interval"`},
		{[]string{"--log-level=loud"}, "--log-level=loud is not valid"},
		{[]string{"--log-format=xml"}, "--log-format=xml is not valid: json or console is allowed"},
		{[]string{"--log-outputs=default,stderr"}, "--log-outputs=default,stderr is not valid"},
		{[]string{"--log-outputs=/no/such/dir/log"}, "/no/such/dir/log"},
		{[]string{"--log-outputs=stderr", "--enable-log-rotation"}, "exactly one file"},
		{[]string{"--log-outputs=a,b", "--enable-log-rotation"}, "exactly one file"},
		{[]string{"--log-outputs=a", "--enable-log-rotation", "--log-rotation-config-json={"}, "improperly formatted log rotation config"},
		{[]string{"--log-outputs=a", "--enable-log-rotation", `--log-rotation-config-json={"maxsize":"x"}`}, "invalid log rotation config"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			_, err := build(t, append(c.args, "--storage-engine=memory"), "")
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %v; want %q", err, c.says)
			}
		})
	}
}

func TestEnvironmentRules(t *testing.T) {
	t.Setenv("ETCD_MAX_LEARNERS", "3")
	t.Setenv("ETCD_NO_SUCH_FLAG", "x")
	t.Setenv("ETCD_VERSION", "9")
	f, fs := newFlags()
	if err := f.readEnvironment(fs); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, n := range f.notes {
		texts = append(texts, fmt.Sprint(n.text, n.attrs))
	}
	for _, want := range []string{
		"recognized and used environment variable[variable-name ETCD_MAX_LEARNERS variable-value 3]",
		"unrecognized environment variable[environment-variable ETCD_NO_SUCH_FLAG]",
		"cannot set special environment variable[key ETCD_VERSION]",
	} {
		if !slices.Contains(texts, want) {
			t.Errorf("%q is not noted: %q", want, texts)
		}
	}
	if c, err := build(t, []string{"--storage-engine=memory"}, ""); err != nil || c.MaxLearners != 3 {
		t.Errorf("%d learners, %v", c.MaxLearners, err)
	}
	if _, err := build(t, []string{"--max-learners=3"}, ""); err == nil || !strings.Contains(err.Error(), "ETCD_MAX_LEARNERS=3 and --max-learners=3 are both given") {
		t.Errorf("variable and flag: %v", err)
	}
	if c, err := build(t, []string{"--storage-engine=memory"}, "name: a\n"); err != nil || c.MaxLearners != 1 {
		t.Errorf("with a file %d learners, %v", c.MaxLearners, err)
	}
	t.Setenv("ETCD_MAX_LEARNERS", "many")
	if _, err := build(t, nil, ""); err == nil || !strings.Contains(err.Error(), "ETCD_MAX_LEARNERS=many is not valid") {
		t.Errorf("a variable that is no number: %v", err)
	}
}

// The host that others reach is advertised where a member listens on all
// addresses and nothing else was said.
func TestDefaultHost(t *testing.T) {
	c, err := build(t, []string{"--storage-engine=memory", "--listen-peer-urls=http://0.0.0.0:2390"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if u := c.AdvertisePeerURLs[0]; u.Port() != "2390" && u.Host != "localhost:2380" {
		t.Errorf("advertised: %s", u.String())
	}
	c, err = build(t, []string{"--storage-engine=memory", "--listen-peer-urls=http://0.0.0.0:2390", "--initial-advertise-peer-urls=http://a.test:1"}, "")
	if err != nil || c.AdvertisePeerURLs[0].Host != "a.test:1" {
		t.Errorf("advertised: %v, %v", c.AdvertisePeerURLs, err)
	}
}

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// section is a nested part of etcd's config file: the flags of its keys, and
// further sections.
type section struct {
	flags    map[string]string
	sections map[string]section
}

var sections = map[string]section{
	"client-transport-security": {flags: map[string]string{
		"cert-file": "cert-file", "key-file": "key-file", "client-cert-file": "client-cert-file", "client-key-file": "client-key-file",
		"client-cert-auth": "client-cert-auth", "trusted-ca-file": "trusted-ca-file", "auto-tls": "auto-tls",
		"crl-file": "client-crl-file", "client-crl-file": "client-crl-file",
		"allowed-cn": clientCNsFlag, "allowed-hostname": "client-cert-allowed-hostname",
		"skip-client-san-verification": clientSkipFlag,
	}},
	"peer-transport-security": {flags: map[string]string{
		"cert-file": "peer-cert-file", "key-file": "peer-key-file", "client-cert-file": "peer-client-cert-file", "client-key-file": "peer-client-key-file",
		"client-cert-auth": "peer-client-cert-auth", "trusted-ca-file": "peer-trusted-ca-file", "auto-tls": "peer-auto-tls",
		"crl-file": "peer-crl-file", "peer-crl-file": "peer-crl-file",
		"allowed-cn": "peer-cert-allowed-cn", "allowed-hostname": "peer-cert-allowed-hostname",
		"skip-client-san-verification": "peer-skip-client-san-verification",
	}},
	"socket-options": {flags: map[string]string{"reuse-port": "socket-reuse-port", "reuse-address": "socket-reuse-address"}},
	"discovery-config": {
		flags: map[string]string{"token": "discovery-token"},
		sections: map[string]section{"client": {
			flags: map[string]string{
				"endpoints": "discovery-endpoints", "dial-timeout": "discovery-dial-timeout", "request-timeout": "discovery-request-timeout",
				"keepalive-time": "discovery-keepalive-time", "keepalive-timeout": "discovery-keepalive-timeout",
			},
			sections: map[string]section{
				"secure": {flags: map[string]string{
					"cert": "discovery-cert", "key": "discovery-key", "cacert": "discovery-cacert",
					"insecure-transport": "discovery-insecure-transport", "insecure-skip-tls-verify": "discovery-insecure-skip-tls-verify",
				}},
				"auth": {flags: map[string]string{"username": "discovery-user", "password": "discovery-password"}},
			},
		}},
	},
}

// listFlags may be sequences in a config file; elsewhere they have commas.
var listFlags = []string{
	"log-outputs", "cipher-suites", "discovery-endpoints", "cors", "host-whitelist", "feature-gates",
	"listen-client-urls", "listen-client-http-urls", "advertise-client-urls", "listen-peer-urls", "initial-advertise-peer-urls",
	"listen-metrics-urls", "initial-cluster", "peer-cert-allowed-cn", "peer-cert-allowed-hostname", "client-cert-allowed-hostname", clientCNsFlag,
}

// readConfigFile takes each key as the flag of that name. An empty value leaves
// the default.
func (f *flags) readConfigFile(fs *pflag.FlagSet, name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("--config-file: %w", err)
	}
	var keys map[string]yaml.Node
	if err := yaml.Unmarshal(b, &keys); err != nil {
		return fmt.Errorf("--config-file=%s is not YAML with settings: %w", name, err)
	}
	top := section{sections: sections}
	if err := f.readSection(fs, "", top, keys); err != nil {
		return fmt.Errorf("--config-file=%s: %w", name, err)
	}
	return nil
}

func (f *flags) readSection(fs *pflag.FlagSet, path string, s section, keys map[string]yaml.Node) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		value := keys[key]
		inner, nested := s.sections[key]
		switch {
		case nested:
			var below map[string]yaml.Node
			if err := value.Decode(&below); err != nil {
				errs = append(errs, badValue(path+key, &value, "a section with keys of its own"))
				continue
			}
			errs = append(errs, f.readSection(fs, path+key+".", inner, below))
		case path == "" && slices.Contains(retiredKeys, key):
			f.note(slog.LevelWarn, "key is no longer supported - ignoring", "key", key)
		default:
			flag := key
			if path != "" {
				flag = s.flags[key]
			}
			errs = append(errs, setFromFile(fs, path+key, flag, &value))
		}
	}
	return errors.Join(errs...)
}

// setFromFile sets a flag to a value whose type fits to it.
func setFromFile(fs *pflag.FlagSet, key, flag string, v *yaml.Node) error {
	fl := fs.Lookup(flag)
	if fl == nil || fl.Hidden || slices.Contains(notFromEnvironment, flag) {
		return fmt.Errorf("line %d: %q is not a setting; metastore --help lists them", v.Line, key)
	}
	text, allowed, ok := scalarText(fl, v)
	if !ok {
		return badValue(key, v, allowed)
	}
	if text == "" {
		return nil
	}
	if err := fs.Set(flag, text); err != nil {
		return fmt.Errorf("%w (%w)", badValue(key, v, allowed), err)
	}
	return nil
}

// scalarText is a value as a flag takes it, or what would be allowed.
func scalarText(fl *pflag.Flag, v *yaml.Node) (text, allowed string, ok bool) {
	if v.Kind == yaml.AliasNode {
		v = v.Alias
	}
	if v.Kind == yaml.ScalarNode && (v.Tag == "!!null" || v.Value == "") {
		return "", "", true
	}
	whole := v.ShortTag() == "!!int"
	switch fl.Value.Type() {
	case "bool":
		var b bool
		err := v.Decode(&b)
		return strconv.FormatBool(b), "true or false", err == nil
	case "int", "int64":
		var n int64
		err := v.Decode(&n)
		return strconv.FormatInt(n, 10), "a whole number", err == nil && whole
	case "uint", "uint32", "uint64":
		var n uint64
		err := v.Decode(&n)
		return strconv.FormatUint(n, 10), "a whole number, not negative", err == nil && whole
	case "duration":
		if whole { // etcd's files have nanoseconds
			var n int64
			err := v.Decode(&n)
			return time.Duration(n).String(), "a whole number of nanoseconds or a duration such as 10s", err == nil
		}
		d, err := time.ParseDuration(v.Value)
		return d.String(), "a whole number of nanoseconds or a duration such as 10s", err == nil
	}
	if v.Kind == yaml.SequenceNode && slices.Contains(listFlags, fl.Name) {
		var list []string
		err := v.Decode(&list)
		return strings.Join(list, ","), "a list of strings", err == nil
	}
	return v.Value, "a string", v.Kind == yaml.ScalarNode
}

func badValue(key string, v *yaml.Node, allowed string) error {
	text := v.Value
	if v.Kind != yaml.ScalarNode {
		if b, err := yaml.Marshal(v); err == nil {
			text = strings.Join(strings.Fields(string(b)), " ")
		}
	}
	return fmt.Errorf("line %d: %s: %s is not valid: %s is allowed", v.Line, key, text, allowed)
}

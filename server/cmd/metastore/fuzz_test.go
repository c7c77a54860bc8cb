package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"metastore.io/metastore/server/node"
)

// parseFlags is what serve does with its arguments.
func parseFlags(args ...string) (node.Config, *pflag.FlagSet, error) {
	var f flags
	fs := pflag.NewFlagSet("metastore", pflag.ContinueOnError)
	fs.SetOutput(&strings.Builder{})
	f.register(fs)
	if err := fs.Parse(args); err != nil {
		return node.Config{}, fs, err
	}
	c, err := f.config(fs)
	c.Logger, c.ClientTLS.Logger, c.PeerTLS.Logger = nil, nil, nil
	return c, fs, err
}

// FuzzFlags parses any arguments, one a line: they are refused with a sentence,
// or give a valid configuration, and the same one from a config file that says
// the same, as far as a file can: an empty value there is none.
func FuzzFlags(f *testing.F) {
	f.Add("--name=a\n--storage-engine=memory")
	f.Add("--listen-client-urls=http://127.0.0.1:1\n--advertise-client-urls=http://h:1,https://h:2\n--max-txn-ops=5")
	f.Add("--heartbeat-interval=0x10\n--election-timeout=99999999999999999999")
	f.Add("--auto-compaction-mode=revision\n--auto-compaction-retention=1e3")
	f.Add("--auth-token=jwt,sign-method=RS256\n--no-such")
	f.Add("--client-cert-auth=maybe\n--rocksdb-compression=\n--\nx")
	f.Add("--initial-cluster=a=http://%zz:1,b\n--max-concurrent-streams=-1\n--logger=zap")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "config-file") {
			return
		}
		c, fs, err := parseFlags(strings.Split(text, "\n")...)
		if err != nil {
			if errors.Is(err, pflag.ErrHelp) || strings.TrimSpace(err.Error()) != "" {
				return
			}
			t.Fatalf("%q is refused without a word", text)
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("%q gives what is not valid: %v", text, err)
		}
		same, ok := asFile(fs)
		if !ok {
			return
		}
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(same), 0o600); err != nil {
			t.Fatal(err)
		}
		again, _, err := parseFlags("--config-file=" + file)
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%q gives\n%+v\nand as a file\n%s\n%+v, %v", text, c, same, again, err)
		}
	})
}

// asFile writes the flags that were set as a config file, if one can say it.
func asFile(fs *pflag.FlagSet) (text string, ok bool) {
	var file strings.Builder
	ok = true
	fs.Visit(func(fl *pflag.Flag) {
		value := fl.Value.String()
		if value == "" || fl.Hidden || slices.Contains(notFromEnvironment, fl.Name) {
			ok = false
		}
		if fl.Value.Type() == "string" {
			value = "'" + strings.ReplaceAll(value, "'", "''") + "'"
		}
		file.WriteString(fl.Name + ": " + value + "\n")
	})
	return file.String(), ok && isYAMLText(file.String())
}

// isYAMLText: YAML has no way to write some characters as they are, and folds
// line ends.
func isYAMLText(s string) bool {
	for _, line := range strings.Split(strings.TrimSuffix(s, "\n"), "\n") {
		_, value, _ := strings.Cut(line, ": ")
		if strings.Trim(value, "'") != strings.TrimSpace(strings.Trim(value, "'")) {
			return false
		}
		for _, r := range value {
			if r < ' ' || r > '~' {
				return false
			}
		}
	}
	return true
}

// FuzzConfigFile reads any config file: it is refused with a sentence that names
// it, or gives a valid configuration.
func FuzzConfigFile(f *testing.F) {
	f.Add([]byte("name: a\nstorage-engine: memory\n"))
	f.Add([]byte("client-transport-security:\n  cert-file: x\n  auto-tls: true\npeer-transport-security: {}\n"))
	f.Add([]byte("client-transport-security: 5\n"))
	f.Add([]byte("auto-compaction-retention: 1h\nheartbeat-interval: 1.5\n"))
	f.Add([]byte("name: &a [*a]\n"))
	f.Add([]byte("config-file: x\n"))
	f.Add([]byte("name: [1, {b: c}]\nlog-outputs: [stderr]\n"))
	f.Add([]byte("- a\n"))
	f.Add([]byte("\x00"))
	file := filepath.Join(f.TempDir(), "c.yaml")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := parseFlags("--config-file=" + file)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Fatalf("%q is refused without a word", content)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("%q gives what is not valid: %v", content, err)
		}
	})
}

package main

import (
	"strings"
	"testing"
)

func TestBadFlagsAreRefused(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--no-such-flag", "unknown flag: --no-such-flag"},
		{"--concurrency=0", "--concurrency is 0; allowed is 1 or more"},
		{"--member-timeout=-1s", "--member-timeout is -1s; allowed is more than 0s"},
		{"--log-level=loud", "--log-level is loud; allowed are debug, info, warn and error"},
		{"surplus", `unknown command "surplus"`},
	} {
		cmd := newCommand()
		cmd.SetArgs(strings.Fields(c.args))
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.args, err, c.want)
		}
	}
}

package host

import (
	"errors"
	"testing"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// Each voter is a letter: h healthy, c connected only a moment ago, d down,
// u never started. The target of a removal is the first.
func TestReconfigRules(t *testing.T) {
	for _, tc := range []struct {
		kind   state.MemberChangeKind
		voters string
		want   error
	}{
		{state.AddVoter, "h", nil},
		{state.AddVoter, "hh", nil},
		{state.AddVoter, "hu", replica.ErrNotEnoughStarted},
		{state.AddVoter, "hd", replica.ErrUnhealthy},
		{state.AddVoter, "hhc", replica.ErrUnhealthy},
		{state.AddVoter, "hhh", nil},
		{state.AddVoter, "hhhd", nil},
		{state.AddVoter, "hhuu", replica.ErrNotEnoughStarted},
		{state.AddLearner, "h", nil},
		{state.AddLearner, "hhd", replica.ErrUnhealthy},
		{state.AddLearner, "hhhd", nil},
		{state.AddLearner, "hhhdd", replica.ErrUnhealthy},
		{state.AddLearner, "hhhhd", nil},
		{state.Promote, "h", nil},
		{state.Promote, "hu", nil},
		{state.Promote, "huu", replica.ErrNotEnoughStarted},
		{state.Remove, "hhh", nil},
		{state.Remove, "chh", replica.ErrUnhealthy},
		{state.Remove, "ccc", replica.ErrUnhealthy},
		{state.Remove, "dhh", nil},
		{state.Remove, "hhd", replica.ErrUnhealthy},
		{state.Remove, "uh", nil},
		{state.Remove, "hu", replica.ErrNotEnoughStarted},
		{state.Remove, "uuh", replica.ErrNotEnoughStarted},
		{state.Remove, "hh", nil},
	} {
		var voters []voter
		for i, s := range tc.voters {
			voters = append(voters, voter{id: uint64(i + 1), started: s != 'u', connected: s == 'h' || s == 'c', healthy: s == 'h'})
		}
		if err := checkReconfig(tc.kind, 1, voters); !errors.Is(err, tc.want) {
			t.Errorf("%v with %s: %v, want %v", tc.kind, tc.voters, err, tc.want)
		}
	}
}

// A learner's removal, and that of a member nobody knows, touches no quorum.
func TestReconfigOfOthersIsFree(t *testing.T) {
	if err := checkReconfig(state.Remove, 9, []voter{{id: 1, started: true}}); err != nil {
		t.Fatal(err)
	}
}

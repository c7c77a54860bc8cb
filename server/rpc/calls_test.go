package rpc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"metastore.io/metastore/server/state"
)

// Clients say which version they are; however many they make up, the labels
// stay few.
func TestClientVersionsAreBounded(t *testing.T) {
	c := newCallMetrics()
	c.called("unary", nil)
	for i := range 10 * maxClientVersions {
		c.called("unary", []string{fmt.Sprint("3.", i)})
	}
	if n := testutil.CollectAndCount(c.requests); n != maxClientVersions+2 {
		t.Errorf("%d labels, want %d and unknown and other", n, maxClientVersions)
	}
	if n := testutil.ToFloat64(c.requests.WithLabelValues("unary", "3.0")); n != 1 {
		t.Errorf("version 3.0 called %v times, want once", n)
	}
}

// A stream that its client ends has not failed.
func TestStreamFailures(t *testing.T) {
	c := newCallMetrics()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	c.streamed(t.Context(), "send", "watch", errors.New("broken pipe"))
	c.streamed(ended, "send", "watch", errors.New("cancelled"))
	c.streamed(t.Context(), "send", "watch", nil)
	if n := testutil.ToFloat64(c.broken.WithLabelValues("send", "watch")); n != 1 {
		t.Errorf("%v streams failed, want 1", n)
	}
}

// Every kind of request that clients propose has etcd's name.
func TestRequestTypesHaveNames(t *testing.T) {
	for kind := state.KindPut; kind <= state.KindDowngrade; kind++ {
		internal := kind == state.KindMemberPublish || kind == state.KindClusterVersion || kind == state.KindLeaseExpire
		if name := requestTypes[kind]; (name == "") != internal {
			t.Errorf("kind %d is called %q", kind, name)
		}
	}
}

// What every call pays allocates nothing.
func TestCallMetricsAllocateNothing(t *testing.T) {
	c := newCallMetrics()
	version := []string{"3.7"}
	begin := time.Now()
	n := testing.AllocsPerRun(100, func() {
		c.answered("Put", begin, nil)
		c.ranged(begin, nil)
		c.called("unary", version)
	})
	if n != 0 {
		t.Errorf("got %v allocations a call, want 0", n)
	}
}

func BenchmarkCallMetrics(b *testing.B) {
	c := newCallMetrics()
	version := []string{"3.7"}
	for b.Loop() {
		c.called("unary", version)
		begin := time.Now()
		c.ranged(begin, nil)
		c.answered("Range", begin, nil)
	}
}

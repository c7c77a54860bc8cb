package e2e

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// keyLife is how long the clients of a history use one key: a check takes
// exponential time in the length of a key's history.
const keyLife = 500 * time.Millisecond

// operation is one call on one key. swap puts value if the key holds expect.
type operation struct {
	key, value, expect string
	write, swap        bool
}

// outcome is what was seen: the value read, or whether the swap took place.
// unknown is for a write that failed.
type outcome struct {
	value         string
	done, unknown bool
}

// register is one key: its state is its value, empty for none.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(operation).key
			byKey[key] = append(byKey[key], op)
		}
		var out [][]porcupine.Operation
		for _, of := range byKey {
			out = append(out, of)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		value, in, out := state.(string), input.(operation), output.(outcome)
		switch {
		case in.write:
			return true, in.value
		case in.swap && value == in.expect:
			return out.unknown || out.done, in.value
		case in.swap:
			return out.unknown || !out.done, value
		}
		return out.value == value, value
	},
}

// history is what concurrent clients ask and see, to be judged at its end.
type history struct {
	began   time.Time
	stop    context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	calls   []porcupine.Operation
}

// startHistory has each client work on the same keys until the end.
func startHistory(clients ...*clientv3.Client) *history {
	ctx, cancel := context.WithCancel(context.Background())
	h := &history{began: time.Now(), stop: cancel}
	for i, etcd := range clients {
		h.running.Go(func() { h.work(ctx, i, etcd) })
	}
	DeferCleanup(h.end)
	return h
}

func (h *history) end() {
	h.stop()
	h.running.Wait()
}

func (h *history) work(ctx context.Context, client int, etcd *clientv3.Client) {
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	last := ""
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		in := operation{key: fmt.Sprintf("linear/%d", time.Since(h.began)/keyLife)}
		value := fmt.Sprintf("%d-%d", client, n)
		switch n % 4 {
		case 0:
			in.write, in.value = true, value
		case 2:
			in.swap, in.value, in.expect = true, value, last
		}
		call := int64(time.Since(h.began))
		out, err := ask(ctx, etcd, in)
		end := int64(time.Since(h.began))
		if err != nil {
			if !in.write && !in.swap {
				continue
			}
			out.unknown, end = true, math.MaxInt64 // it may happen at any time from now on
		}
		last = out.value
		h.mu.Lock()
		h.calls = append(h.calls, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end})
		h.mu.Unlock()
		if err != nil {
			client += 100 // a client with a call that never ends asks nothing else
		}
	}
}

func ask(ctx context.Context, etcd *clientv3.Client, in operation) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	switch {
	case in.write:
		_, err := etcd.Put(ctx, in.key, in.value)
		return outcome{}, err
	case in.swap:
		is := clientv3.Compare(clientv3.Value(in.key), "=", in.expect)
		if in.expect == "" {
			is = clientv3.Compare(clientv3.Version(in.key), "=", 0)
		}
		r, err := etcd.Txn(ctx).If(is).Then(clientv3.OpPut(in.key, in.value)).Commit()
		if err != nil {
			return outcome{}, err
		}
		return outcome{done: r.Succeeded}, nil
	}
	r, err := etcd.Get(ctx, in.key)
	if err != nil || len(r.Kvs) == 0 {
		return outcome{}, err
	}
	return outcome{value: string(r.Kvs[0].Value)}, nil
}

// expectLinearizable ends the history and wants one order of all calls that
// explains what every client saw.
func (h *history) expectLinearizable(scenario string) {
	GinkgoHelper()
	h.end()
	unknown := 0
	for _, c := range h.calls {
		if c.Output.(outcome).unknown {
			unknown++
		}
	}
	AddReportEntry("linearizability", fmt.Sprintf("%s: %d calls, %d with an unknown outcome", scenario, len(h.calls), unknown))
	Expect(len(h.calls)-unknown).To(BeNumerically(">", 1000), "the clients hardly asked anything")
	Expect(porcupine.CheckOperationsTimeout(register, h.calls, time.Minute)).To(Equal(porcupine.Ok))
}

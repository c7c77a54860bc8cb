package controller

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"metastore.io/metastore/operator/member"
)

func request(f *fixture) ctrl.Request { return ctrl.Request{NamespacedName: f.key()} }

func parseMember(id string) member.ID { return member.ID(parseID(id)) }

// crash is what a counter panics with: the operator's process is gone, right
// after the call had its effect and before anybody heard of it.
type crash struct{}

// counter counts the calls that change something, in the API server and in the
// cluster, and can end the operator after each of them.
type counter struct {
	client.Client
	members member.Access
	crashes bool

	mu   sync.Mutex
	list []string
}

func counting(c client.WithWatch, members member.Access) *counter {
	n := &counter{members: members}
	n.Client = interceptor.NewClient(c, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return n.count("create", o.GetName(), c.Create(ctx, o, opts...))
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return n.count("patch", o.GetName(), c.Patch(ctx, o, p, opts...))
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return n.count("delete", o.GetName(), c.Delete(ctx, o, opts...))
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return n.count(sub, o.GetName(), c.SubResource(sub).Patch(ctx, o, p, opts...))
		},
	})
	return n
}

// expectNothingWritten reconciles twice and wants no change to come of it.
func (f *fixture) expectNothingWritten() {
	GinkgoHelper()
	counted := counting(kube, f.fake)
	r := f.reconciler(counted, kube, counted.access())
	for range 2 {
		_, err := r.Reconcile(f.ctx, request(f))
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(counted.calls()).To(BeEmpty())
}

func (n *counter) count(what, on string, err error) error {
	n.mu.Lock()
	n.list = append(n.list, what+" "+on)
	n.mu.Unlock()
	if n.crashes && err == nil {
		panic(crash{})
	}
	return err
}

func (n *counter) calls() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}

func (n *counter) access() member.Access { return countedMembers{n} }

type countedMembers struct{ n *counter }

func (c countedMembers) Look(ctx context.Context, e []string) member.View {
	return c.n.members.Look(ctx, e)
}

func (c countedMembers) AddLearner(ctx context.Context, e []string, url string) (member.ID, error) {
	id, err := c.n.members.AddLearner(ctx, e, url)
	return id, c.n.count("add", url, err)
}

func (c countedMembers) UpdatePeerURL(ctx context.Context, e []string, id member.ID, url string) error {
	return c.n.count("update", url, c.n.members.UpdatePeerURL(ctx, e, id, url))
}

func (c countedMembers) Promote(ctx context.Context, e []string, id member.ID) error {
	return c.n.count("promote", fmt.Sprint(id), c.n.members.Promote(ctx, e, id))
}

func (c countedMembers) Remove(ctx context.Context, e []string, id member.ID) error {
	return c.n.count("remove", fmt.Sprint(id), c.n.members.Remove(ctx, e, id))
}

func (c countedMembers) MoveLeader(ctx context.Context, e string, to member.ID) error {
	return c.n.count("move", fmt.Sprint(to), c.n.members.MoveLeader(ctx, e, to))
}

func (c countedMembers) Compact(ctx context.Context, e []string, revision int64) error {
	return c.n.count("compact", fmt.Sprint(revision), c.n.members.Compact(ctx, e, revision))
}

func (c countedMembers) Defragment(ctx context.Context, e string) error {
	return c.n.count("defragment", e, c.n.members.Defragment(ctx, e))
}

func (c countedMembers) Disarm(ctx context.Context, e []string, a member.Alarm) error {
	return c.n.count("disarm", a.Type, c.n.members.Disarm(ctx, e, a))
}

// pass runs one reconcile of a fresh operator that dies after its first call
// that changes something, and returns that call.
func (f *fixture) pass() (died string) {
	return f.dying(func(n *counter) {
		_, _ = f.reconciler(n, kube, n.access()).Reconcile(f.ctx, request(f)) // a failed pass is retried, as always
	})
}

// dying runs what ends after its first call that changes something, and returns
// that call.
func (f *fixture) dying(reconcile func(*counter)) (died string) {
	n := counting(kube, f.fake)
	n.crashes = true
	defer func() {
		switch v := recover(); v {
		case nil:
		case crash{}:
			died = n.calls()[len(n.calls())-1]
		default:
			panic(v)
		}
	}()
	reconcile(n)
	return ""
}

// passUntilReady makes passes until one has nothing to do (so that the status is
// of this moment) and the cluster has settled, and returns after which calls the
// operator died.
func (f *fixture) passUntilReady() []string {
	GinkgoHelper()
	var died []string
	Eventually(func() string {
		if after := f.pass(); after != "" {
			died = append(died, after)
			return "died after " + after
		}
		return f.settled(f.cluster())
	}).WithTimeout(patience).WithPolling(20*time.Millisecond).Should(BeEmpty(), func() string {
		return fmt.Sprintf("status %+v\nchanges %v\ndied after %v", f.cluster().Status, f.fake.Changes(), died)
	})
	return died
}

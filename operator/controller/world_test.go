package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/member"
	"metastore.io/metastore/operator/pki"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// patience is how long anything may take on a busy machine.
const patience = 60 * time.Second

// fixture is one cluster in a namespace of its own.
type fixture struct {
	ctx       context.Context
	namespace string
	name      string
	fake      *member.Fake
	events    *eventLog
	// ran are the arguments of the Jobs of its restores, under the kubelet's lock.
	ran [][]string
	// serveTimeout is how long a restored member may take to serve.
	serveTimeout time.Duration
}

// newFixture makes a namespace; the cluster is made by create.
func newFixture(ctx context.Context) *fixture {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}
	Expect(kube.Create(ctx, ns)).To(Succeed())
	f := &fixture{ctx: ctx, namespace: ns.Name, name: "x", events: &eventLog{}, serveTimeout: patience}
	f.fake = nodes.fake(f.namespace, f.name)
	return f
}

func (f *fixture) create(replicas int32, change ...func(*v1alpha1.MetaStoreCluster)) {
	c := &v1alpha1.MetaStoreCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: f.name},
		Spec: v1alpha1.MetaStoreClusterSpec{
			Replicas: replicas, Engine: v1alpha1.EngineMemory,
			Storage: v1alpha1.StorageSpec{Size: resource.MustParse("1Gi"), StorageClassName: ptr.To("grows")},
		},
	}
	for _, fn := range change {
		fn(c)
	}
	Expect(kube.Create(f.ctx, c)).To(Succeed())
}

func (f *fixture) key() client.ObjectKey {
	return client.ObjectKey{Namespace: f.namespace, Name: f.name}
}

func (f *fixture) cluster() *v1alpha1.MetaStoreCluster {
	c := &v1alpha1.MetaStoreCluster{}
	Expect(kube.Get(f.ctx, f.key(), c)).To(Succeed())
	return c
}

// edit changes the spec.
func (f *fixture) edit(fn func(*v1alpha1.MetaStoreCluster)) {
	c := f.cluster()
	base := c.DeepCopy()
	fn(c)
	Expect(kube.Patch(f.ctx, c, client.MergeFrom(base))).To(Succeed())
}

func (f *fixture) scale(replicas int32) {
	f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Replicas = replicas })
}

// mine selects what is of the cluster's members.
func (f *fixture) mine() []client.ListOption {
	return []client.ListOption{client.InNamespace(f.namespace), client.MatchingLabels(resources.SelectorLabels(f.name))}
}

func (f *fixture) pods() map[string]corev1.Pod {
	list := &corev1.PodList{}
	Expect(kube.List(f.ctx, list, f.mine()...)).To(Succeed())
	out := map[string]corev1.Pod{}
	for _, p := range list.Items {
		out[p.Name] = p
	}
	return out
}

func (f *fixture) claims() map[string]corev1.PersistentVolumeClaim {
	list := &corev1.PersistentVolumeClaimList{}
	Expect(kube.List(f.ctx, list, f.mine()...)).To(Succeed())
	out := map[string]corev1.PersistentVolumeClaim{}
	for _, c := range list.Items {
		out[c.Name] = c
	}
	return out
}

func (f *fixture) set() *appsv1.StatefulSet {
	s := &appsv1.StatefulSet{}
	Expect(kube.Get(f.ctx, f.key(), s)).To(Succeed())
	return s
}

// ids are the members' identities by pod name, as the status tells them.
func (f *fixture) ids() map[string]string {
	out := map[string]string{}
	for _, m := range f.cluster().Status.Members {
		out[m.Name] = m.ID
	}
	return out
}

// settled says what is missing until the cluster is Ready at its size, with
// nothing left over; empty when nothing is.
func (f *fixture) settled(c *v1alpha1.MetaStoreCluster) string {
	n := int(c.Spec.Replicas)
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
	view := f.fake.Look(f.ctx, []string{resources.ClientURL(c, 0, false)})
	claims := slices.Sorted(maps.Keys(f.claims()))
	switch {
	case ready == nil || ready.Status != metav1.ConditionTrue:
		return fmt.Sprintf("Ready is %+v", ready)
	case ready.ObservedGeneration != c.Generation || c.Status.ObservedGeneration != c.Generation:
		return fmt.Sprintf("generation %d, observed %d", c.Generation, c.Status.ObservedGeneration)
	case len(c.Status.Members) != n || int(c.Status.ReadyReplicas) != n:
		return fmt.Sprintf("%d members, %d ready", len(c.Status.Members), c.Status.ReadyReplicas)
	case len(view.Members) != n:
		return fmt.Sprintf("%d rows in the membership", len(view.Members))
	case len(claims) != n || len(f.pods()) != n:
		return fmt.Sprintf("claims %v, %d pods", claims, len(f.pods()))
	}
	return ""
}

func (f *fixture) awaitReady() {
	GinkgoHelper()
	Eventually(func() string { return f.settled(f.cluster()) }).
		WithTimeout(patience).WithPolling(50*time.Millisecond).Should(BeEmpty(), func() string {
		return fmt.Sprintf("status %+v\nchanges %v\nevents %v", f.cluster().Status, f.fake.Changes(), f.events.actions())
	})
}

// reconciler is one operator's worth of state, with clocks made for tests.
func (f *fixture) reconciler(c client.Client, live client.Reader, access member.Access) *Reconciler {
	limits := plan.DefaultLimits()
	limits.RepairGrace, limits.LostGrace, limits.RepairInterval = 200*time.Millisecond, 200*time.Millisecond, 0
	limits.PeerURLPause, limits.DefragmentInterval = 100*time.Millisecond, 2*time.Second // whole ones are reported
	return &Reconciler{
		Client: c, Live: live, Events: f.events, ServerImage: "registry.test/metastore:1", Limits: limits, Now: time.Now,
		Members: func(_ *v1alpha1.MetaStoreCluster, c member.Credentials) member.Access {
			f.fake.SignIn(c.Root)
			return access
		},
		Certificates: pki.Lifetimes{Authority: 1000 * time.Hour, Certificate: 90 * time.Hour, Spread: 300 * time.Millisecond},
		Pace: Pace{
			Step: 10 * time.Millisecond, Busy: 100 * time.Millisecond, Steady: time.Second,
			Retry: 20 * time.Millisecond, MaxRetry: 200 * time.Millisecond,
		},
	}
}

// startOperator runs a whole manager on the fixture's namespace, with the rights
// that the operator is shipped with, and returns what stops it.
func (f *fixture) startOperator() (stop func()) {
	mgr, err := ctrl.NewManager(shipped, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Cache: CacheOptions(f.namespace),
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(f.restorer(mgr.GetClient(), mgr.GetAPIReader()).SetupWithManager(mgr)).To(Succeed())
	return f.run(mgr, f.reconciler(mgr.GetClient(), mgr.GetAPIReader(), f.fake))
}

func (f *fixture) run(mgr ctrl.Manager, r *Reconciler) (stop func()) {
	Expect(r.SetupWithManager(mgr)).To(Succeed())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			Expect(<-ended).To(Succeed())
		})
	}
	DeferCleanup(stop)
	return stop
}

// eventLog keeps the events, in order.
type eventLog struct {
	mu   sync.Mutex
	list []string
}

func (l *eventLog) Eventf(_, _ runtime.Object, eventType, reason, action, note string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf("%s %s %s: %s", eventType, action, reason, fmt.Sprintf(note, args...)))
}

func (l *eventLog) actions() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

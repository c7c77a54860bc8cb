package controller

import (
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"metastore.io/metastore/api/v1alpha1"
)

// passRestore is pass for the restore r.
func (f *fixture) passRestore() string {
	return f.dying(func(n *counter) {
		req := ctrl.Request{NamespacedName: types.NamespacedName{Namespace: f.namespace, Name: "r"}}
		_, _ = f.restorer(n, kube).Reconcile(f.ctx, req) // a failed pass is retried, as always
	})
}

// passUntilRestored makes passes until the restore has ended and the cluster has
// settled, and returns after which calls the operator died.
func (f *fixture) passUntilRestored() []string {
	GinkgoHelper()
	var died []string
	Eventually(func() string {
		quiet := true
		for _, pass := range []func() string{f.passRestore, f.pass} {
			if after := pass(); after != "" {
				died, quiet = append(died, after), false
			}
		}
		switch r := f.restored(); {
		case !quiet:
			return "died after " + died[len(died)-1]
		case !restoreFinished(r) || held(r):
			return fmt.Sprintf("restore %+v", r.Status)
		}
		return f.settled(f.cluster())
	}).WithTimeout(patience).WithPolling(20*time.Millisecond).Should(BeEmpty(), func() string {
		return fmt.Sprintf("restore %+v\ncluster %+v\nchanges %v\ndied after %v", f.restored().Status, f.cluster().Status, f.fake.Changes(), died)
	})
	return died
}

// The operator dies after every single call that changes something, and the
// result is what an operator that lives would have made of it.
var _ = DescribeTable("An operator that dies after each call of a restore", func(ctx SpecContext, begin func(*fixture), outcome, reason string, changes []string, calls ...string) {
	f := newFixture(ctx)
	f.reads(artifact{})
	begin(f)
	died := f.passUntilRestored()
	Expect(f.fake.Changes()).To(Equal(changes))
	ended := condition(f.restored().Status.Conditions, outcome)
	Expect(ended).NotTo(BeNil(), "%+v", f.restored().Status)
	Expect(ended.Reason).To(MatchRegexp(reason))
	for _, call := range calls {
		Expect(died).To(ContainElement(HavePrefix(call)), "the table promises a crash there")
	}
	Expect(f.passRestore()).To(BeEmpty(), "a restore that has ended writes nothing")
},
	Entry("into a new cluster", func(f *fixture) {
		f.create(3, beginsWith("r"))
		f.restore(v1alpha1.RestoreNewCluster)
	}, "Complete", "Restored",
		append([]string{"restore x-0"}, joined...),
		"patch r", "create r-verify", "create data-x-0", "create r-fill", "patch data-x-0", "patch x", "status r", "status x"),
	Entry("into a new cluster, which does not serve", func(f *fixture) {
		f.serveTimeout = time.Second
		f.reads(artifact{broken: true})
		f.create(1, beginsWith("r"))
		f.restore(v1alpha1.RestoreNewCluster)
		f.passUntilFailed()
		Expect(f.claims()).To(BeEmpty(), "what was half filled goes")
		Expect(f.pods()).To(BeEmpty())
		// Another restore of that name gives the cluster its beginning.
		Expect(kube.Delete(f.ctx, f.restored())).To(Succeed())
		f.awaitNoRestore()
		f.serveTimeout = patience
		f.reads(artifact{})
		f.restore(v1alpha1.RestoreNewCluster)
	}, "Complete", "Restored",
		[]string{"restore x-0", "restore x-0"},
		"create data-x-0"),
	Entry("in place", func(f *fixture) {
		f.create(3)
		f.passUntilReady()
		f.restore(v1alpha1.RestoreInPlace)
	}, "Complete", "Restored",
		append(append([]string{}, joined...), append([]string{"restore x-0", "finish"}, joined...)...),
		"patch r", "create r-verify", "patch data-x-0", "patch x", "create r-fill", "patch x-members", "create r-finish", "delete data-x-1", "delete data-x-2", "status r"),
	Entry("in place, which is undone", func(f *fixture) {
		f.create(3)
		f.passUntilReady()
		f.serveTimeout = time.Second
		f.reads(artifact{broken: true})
		f.restore(v1alpha1.RestoreInPlace)
	}, "Failed", "NotServing",
		append(append([]string{}, joined...), "restore x-0", "undo x-0"),
		"create r-fill", "create r-undo", "patch data-x-0", "patch x-members", "patch x", "status r"),
	Entry("from a survivor", func(f *fixture) {
		f.create(3)
		f.passUntilReady()
		f.lose("x-1", "x-2")
		Eventually(func() bool {
			f.pass()
			return condition(f.cluster().Status.Conditions, v1alpha1.ConditionAvailable).Status == "False"
		}).WithTimeout(patience).Should(BeTrue())
		f.restore(v1alpha1.RestoreForceNewCluster)
	}, "Complete", "^(Recovered|QuorumServes)$", // it may have died before it could tell of its recovery
		append(append([]string{}, joined...), "force x-0", "add x-1", "promote x-1", "add x-2", "promote x-2"),
		"patch r", "patch x", "patch data-x-0", "status r"),
)

// passUntilFailed makes passes until the restore has failed and is let go of.
func (f *fixture) passUntilFailed() {
	GinkgoHelper()
	Eventually(func() bool {
		f.passRestore()
		f.pass()
		r := f.restored()
		return condition(r.Status.Conditions, v1alpha1.ConditionFailed) != nil && !held(r)
	}).WithTimeout(patience).WithPolling(20*time.Millisecond).Should(BeTrue(), func() string {
		return fmt.Sprintf("restore %+v\ncluster %+v", f.restored().Status, f.cluster().Status)
	})
}

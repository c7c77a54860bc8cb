package controller

import (
	"fmt"
	"net/http"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"metastore.io/metastore/api/v1alpha1"
)

var _ = Describe("What the operator does", func() {
	It("is told by events and metrics, which go with the cluster", func(ctx SpecContext) {
		f := newFixture(ctx)
		url := f.startTelling()
		f.create(1)
		f.awaitReady()
		f.scale(3)
		f.awaitReady()
		f.lose("x-1")
		// The condition Ready may be that of before the loss.
		Eventually(func() string { return strings.Join(f.fake.Changes(), ", ") }).WithTimeout(patience).
			Should(HaveSuffix("remove x-1, add x-1, promote x-1"))
		f.awaitReady()
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Server = &v1alpha1.ServerSpec{SnapshotCount: ptr.To(int64(7000))}
		})
		f.awaitReady()

		By("events")
		for _, action := range []string{"ApplyObject", "WriteSettings", "ApplySet", "RecordMember", "AddLearner", "Promote", "Remove", "DeleteVolume", "DeletePod", "MoveLeader"} {
			Eventually(f.eventsOf).WithArguments(ctx).WithTimeout(patience).Should(ContainElement(HavePrefix("Normal "+action+" ")), action)
		}
		Eventually(f.eventsOf).WithArguments(ctx).WithTimeout(patience).Should(ContainElement(
			"Normal Remove DataGone: member 1 found its data directory empty although it had started before; it is replaced at the same ordinal"))

		By("metrics")
		Eventually(f.scrape).WithArguments(url).WithTimeout(patience).Should(SatisfyAll(
			HaveKeyWithValue("metastore_operator_repairs_total/reason=DataGone", 1.0),
			HaveKeyWithValue("metastore_operator_rolled_pods_total", 3.0),
			HaveKeyWithValue("metastore_operator_steps_total/action=AddLearner/failed=false/operation=ScaleOut", 2.0),
			HaveKeyWithValue("metastore_operator_steps_total/action=AddLearner/failed=false/operation=Replace", 1.0),
			HaveKeyWithValue("metastore_operator_condition_since_timestamp_seconds/condition=Ready/status=True", BeNumerically(">", 1e9)),
			Not(HaveKey(HavePrefix("metastore_operator_operation_since_timestamp_seconds"))),
		))
		c := f.cluster()
		Expect(kube.Delete(ctx, c)).To(Succeed())
		Eventually(f.scrape).WithArguments(url).WithTimeout(patience).Should(BeEmpty())
	})

	It("is told while it goes on, too", func(ctx SpecContext) {
		f := newFixture(ctx)
		url := f.startTelling()
		f.fake.Fail(func(call string) error {
			if call == "add" {
				return fmt.Errorf("not now")
			}
			return nil
		})
		f.create(3)
		Eventually(f.scrape).WithArguments(url).WithTimeout(patience).Should(SatisfyAll(
			HaveKeyWithValue("metastore_operator_operation_since_timestamp_seconds/operation=ScaleOut", BeNumerically(">", 1e9)),
			HaveKeyWithValue("metastore_operator_condition_since_timestamp_seconds/condition=Ready/status=False", BeNumerically(">", 1e9)),
			HaveKeyWithValue("metastore_operator_steps_total/action=AddLearner/failed=true/operation=ScaleOut", BeNumerically(">", 0)),
		))
		Eventually(f.eventsOf).WithArguments(ctx).WithTimeout(patience).Should(ContainElement(
			SatisfyAll(HavePrefix("Warning AddLearner ActionFailed: "), HaveSuffix("not now"))))
	})
})

// startTelling starts an operator as it is shipped: its events go to the API
// server, its metrics to the endpoint that it returns.
func (f *fixture) startTelling() (url string) {
	GinkgoHelper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort())
	mgr, err := ctrl.NewManager(shipped, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: address}, Cache: CacheOptions(f.namespace),
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
	})
	Expect(err).NotTo(HaveOccurred())
	r := f.reconciler(mgr.GetClient(), mgr.GetAPIReader(), f.fake)
	r.Events = mgr.GetEventRecorder("metastore-operator")
	f.run(mgr, r)
	return "http://" + address + "/metrics"
}

// eventsOf are the cluster's events in the API server.
func (f *fixture) eventsOf(ctx SpecContext) []string {
	list := &eventsv1.EventList{}
	Expect(kube.List(ctx, list, client.InNamespace(f.namespace))).To(Succeed())
	var out []string
	for _, e := range list.Items {
		if e.Regarding.Kind == v1alpha1.KindMetaStoreCluster && e.Regarding.Name == f.name {
			out = append(out, fmt.Sprintf("%s %s %s: %s", e.Type, e.Action, e.Reason, e.Note))
		}
	}
	return out
}

// scrape reads this cluster's series of the operator's own, by name and labels.
func (f *fixture) scrape(g Gomega, url string) map[string]float64 {
	answer, err := http.Get(url)
	g.Expect(err).NotTo(HaveOccurred())
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	g.Expect(err).NotTo(HaveOccurred())
	out := map[string]float64{}
	for name, family := range families {
		if !strings.HasPrefix(name, "metastore_operator_") {
			continue
		}
		for _, m := range family.Metric {
			key, mine := name, false
			for _, l := range m.Label {
				switch {
				case l.GetName() == "namespace":
					mine = l.GetValue() == f.namespace
				case l.GetName() != "cluster":
					key += "/" + l.GetName() + "=" + l.GetValue()
				}
			}
			if mine {
				out[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return out
}

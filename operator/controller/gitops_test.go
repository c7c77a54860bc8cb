package controller

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
)

// record has the objects of the spec about kstatus kept, for tests that judge them
// in other ways: -record=../../hack/install/testdata/health
var record = flag.String("record", "", "folder to keep clusters in, in each state")

// manifestOfX is what a repository holds: as a person writes it, with some of
// what may be left out and some of what may not.
const manifestOfX = `apiVersion: metastore.io/v1alpha1
kind: MetaStoreCluster
metadata:
  name: x
  labels: {team: a}
spec:
  replicas: 3
  engine: RocksDB
  storage: {size: 2048Mi, storageClassName: grows}
  resources:
    requests: {cpu: "0.1", memory: 512Mi}
    limits: {memory: 1024Mi}
  rocksdb: {}
  server:
    quotaBackendBytes: 512Mi
    autoCompaction: {mode: Periodic, retention: 1h}
  tls:
    client: {mode: Disabled}
  update: {}
  podTemplate:
    metadata:
      annotations: {example.org/owner: a}
`

var _ = Describe("A manifest that is applied again and again", func() {
	var f *fixture
	BeforeEach(func(ctx SpecContext) {
		f = newFixture(ctx)
	})

	It("changes nothing, whoever applies it and however", func(ctx SpecContext) {
		f.ctx = ctx
		k := newKubectl(f.namespace)
		k.apply(ctx, manifestOfX)
		stop := f.startOperator()
		f.awaitReady()
		generation, set, pods := f.cluster().Generation, f.set(), podUIDs(f)
		for _, how := range [][]string{
			{}, // client-side, as kubectl and Argo CD do
			{"--server-side", "--field-manager=argocd-controller", "--force-conflicts"},
			{"--server-side", "--field-manager=kustomize-controller"}, // Flux; a conflict would be an error
		} {
			By("kubectl apply " + strings.Join(how, " "))
			k.apply(ctx, manifestOfX, how...) // the first time, the API server notes who owns what
			f.awaitReady()
			version := f.cluster().ResourceVersion
			for range 3 {
				k.apply(ctx, manifestOfX, how...)
			}
			Expect(k.diff(ctx, manifestOfX)).To(BeEmpty())
			f.awaitReady()
			Expect(f.cluster().ResourceVersion).To(Equal(version))
		}
		stop()
		f.expectNothingWritten()
		Expect(f.cluster().Generation).To(Equal(generation))
		Expect(f.set().Generation).To(Equal(set.Generation))
		Expect(podUIDs(f)).To(Equal(pods))
		for _, m := range f.cluster().ManagedFields {
			if m.Manager == "metastore-operator" {
				Expect(m.Subresource).To(Equal("status"), "the operator owns %s", m.FieldsV1)
			}
		}
	})

	DescribeTable("rolls once for a change, also where a webhook rewrites images", func(ctx SpecContext, kinds ...string) {
		f.ctx = ctx
		rewriteImages(ctx, f.namespace, kinds...)
		k := newKubectl(f.namespace)
		k.apply(ctx, manifestOfX)
		stop := f.startOperator()
		f.awaitReady()
		for name, pod := range f.pods() {
			Expect(pod.Spec.Containers[0].Image).To(HavePrefix(mirror), "pod %s", name)
		}
		stop()
		f.expectNothingWritten()
		f.startOperator()
		before := len(f.events.actions())
		k.apply(ctx, strings.Replace(manifestOfX, "retention: 1h", "retention: 2h", 1))
		f.awaitRolled(before)
		k.apply(ctx, strings.Replace(manifestOfX, "spec:\n", "spec:\n  version: 1.4.9\n", 1))
		f.awaitRolled(len(f.events.actions()))
		for name, pod := range f.pods() {
			Expect(pod.Spec.Containers[0].Image).To(And(HavePrefix(mirror), HaveSuffix(":1.4.9")), "pod %s", name)
		}
	},
		Entry("of pods", "pods"),
		Entry("of StatefulSets and pods", "statefulsets", "pods"),
	)

	It("is current, in progress or failed as kstatus judges it", func(ctx SpecContext) {
		f.ctx = ctx
		f.create(3)
		Expect(f.kstatus("new")).To(Equal(status.InProgressStatus), "no operator has seen it")
		f.startOperator()
		f.awaitReady()
		Expect(f.kstatus("ready")).To(Equal(status.CurrentStatus))
		f.edit(func(c *v1alpha1.MetaStoreCluster) {
			c.Spec.Server = &v1alpha1.ServerSpec{SnapshotCount: ptr.To(int64(5000))}
		})
		Expect(f.kstatus("changed")).To(Equal(status.InProgressStatus))
		Eventually(func() *v1alpha1.OperationStatus { return f.cluster().Status.Operation }).WithTimeout(patience).ShouldNot(BeNil())
		Expect(f.kstatus("rolling")).To(Equal(status.InProgressStatus))
		f.awaitReady()
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "registry.test/metastore" + missingTag })
		f.awaitStalled(plan.ReasonPodRefused, "pod x-2 cannot get its image")
		Expect(f.kstatus("stalled")).To(Equal(status.FailedStatus))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Image = "registry.test/metastore:1" })
		f.awaitReady()
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Paused = true })
		f.awaitReady()
		Expect(f.kstatus("paused")).To(Equal(status.CurrentStatus))
		f.edit(func(c *v1alpha1.MetaStoreCluster) { c.Spec.Paused, c.Spec.Hibernated = false, true })
		Eventually(func() string {
			return condition(f.cluster().Status.Conditions, v1alpha1.ConditionReady).Reason
		}).WithTimeout(patience).Should(Equal(plan.ReasonHibernated))
		Expect(f.kstatus("hibernated")).To(Equal(status.InProgressStatus))
	})
})

// kstatus is what Flux, kpt and `kubectl wait`-like tools make of the cluster.
// With -record the object is kept under the name of its state.
func (f *fixture) kstatus(state string) status.Status {
	GinkgoHelper()
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.KindMetaStoreCluster))
	Expect(kube.Get(f.ctx, f.key(), o)).To(Succeed())
	if *record != "" {
		o.SetManagedFields(nil)
		data, err := yaml.Marshal(o.Object)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(filepath.Join(*record, "cluster-"+state+".yaml"), data, 0o644)).To(Succeed())
	}
	result, err := status.Compute(o)
	Expect(err).NotTo(HaveOccurred())
	return result.Status
}

func podUIDs(f *fixture) map[string]types.UID {
	out := map[string]types.UID{}
	for name, p := range f.pods() {
		out[name] = p.UID
	}
	return out
}

// awaitRolled waits until every pod was restarted, once; before is how many
// events there were before the change.
func (f *fixture) awaitRolled(before int) {
	GinkgoHelper()
	Eventually(func() int { return len(restarts(f.events.actions()[before:])) }).WithTimeout(patience).Should(BeNumerically(">=", 3))
	f.awaitReady()
	deleted := []string{}
	for _, e := range restarts(f.events.actions()[before:]) {
		if strings.HasPrefix(e, "DeletePod") {
			deleted = append(deleted, e)
		}
	}
	Expect(deleted).To(ConsistOf("DeletePod pod 0", "DeletePod pod 1", "DeletePod pod 2"))
}

// kubectl is the real one, on the suite's API server.
type kubectl struct{ namespace, kubeconfig string }

func newKubectl(namespace string) kubectl {
	GinkgoHelper()
	c := clientcmdapi.NewConfig()
	c.Clusters["suite"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	c.AuthInfos["suite"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	c.Contexts["suite"] = &clientcmdapi.Context{Cluster: "suite", AuthInfo: "suite"}
	c.CurrentContext = "suite"
	file := filepath.Join(GinkgoT().TempDir(), "kubeconfig")
	Expect(clientcmd.WriteToFile(*c, file)).To(Succeed())
	return kubectl{namespace: namespace, kubeconfig: file}
}

func (k kubectl) run(ctx context.Context, input string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl"),
		append([]string{"--kubeconfig", k.kubeconfig, "--namespace", k.namespace}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	return cmd.CombinedOutput()
}

func (k kubectl) apply(ctx context.Context, manifest string, how ...string) {
	GinkgoHelper()
	out, err := k.run(ctx, manifest, append([]string{"apply", "-f", "-"}, how...)...)
	Expect(err).NotTo(HaveOccurred(), "%s", out)
}

// diff is what an apply would change.
func (k kubectl) diff(ctx context.Context, manifest string) string {
	GinkgoHelper()
	out, err := k.run(ctx, manifest, "diff", "-f", "-")
	if err != nil {
		Expect(out).NotTo(BeEmpty(), "kubectl diff: %v", err) // 1 says that there is a difference
	}
	return string(out)
}

// mirror is the registry that the webhook has images come from.
const mirror = "mirror.test/"

// rewriteImages has a real webhook give pods, or the templates of StatefulSets,
// of one namespace another registry, as some companies' clusters do.
func rewriteImages(ctx context.Context, namespace string, kinds ...string) {
	GinkgoHelper()
	server := httptest.NewTLSServer(http.HandlerFunc(rewrite))
	DeferCleanup(server.Close)
	hook := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	for _, kind := range kinds {
		group := ""
		if kind == "statefulsets" {
			group = "apps"
		}
		hook.Webhooks = append(hook.Webhooks, admissionregistrationv1.MutatingWebhook{
			Name:                    kind + ".mirror.test",
			AdmissionReviewVersions: []string{"v1"},
			SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				URL:      ptr.To(server.URL),
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
			},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: []string{kind}},
			}},
		})
	}
	Expect(kube.Create(ctx, hook)).To(Succeed())
	DeferCleanup(func(ctx context.Context) { Expect(kube.Delete(ctx, hook)).To(Succeed()) })
}

// rewrite answers one admission review.
func rewrite(w http.ResponseWriter, r *http.Request) {
	review := admissionv1.AdmissionReview{}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var o unstructured.Unstructured
	if err := json.Unmarshal(review.Request.Object.Raw, &o.Object); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	path := []string{"spec", "containers"}
	if review.Request.Kind.Kind == "StatefulSet" {
		path = []string{"spec", "template", "spec", "containers"}
	}
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	containers, _, _ := unstructured.NestedSlice(o.Object, path...)
	image, _ := containers[0].(map[string]any)["image"].(string)
	if !strings.HasPrefix(image, mirror) {
		review.Response.PatchType = ptr.To(admissionv1.PatchTypeJSONPatch)
		review.Response.Patch = fmt.Appendf(nil, `[{"op":"replace","path":"/%s/0/image","value":%q}]`,
			strings.Join(path, "/"), mirror+image[strings.Index(image, "/")+1:])
	}
	_ = json.NewEncoder(w).Encode(review) // the API server says so if it gets none
}

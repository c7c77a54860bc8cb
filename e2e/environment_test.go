package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
)

// environment is the Kubernetes that the suite runs against. It is read from
// KUBECONFIG, KUBECTL, SERVER_IMAGE, OPERATOR_IMAGE, REACH (direct: addresses
// of pods and services can be dialled; forward: only through the API server),
// NODE_SH (takes start|stop NODE and exec NODE COMMAND; empty where nodes are not
// ours) and E2E_LOGS (a folder for what failed specs leave). HELM, ETCDCTL and
// S3_SERVER are programs that some specs run.
type environment struct {
	config    *rest.Config
	client    client.Client
	clientset *kubernetes.Clientset

	kubectl, nodeScript        string
	serverImage, operatorImage string
	logs                       string
	direct                     bool

	manifest string // what installOperator applied
	operator client.ObjectKey
	// operatorReplicas are as many as config/default asks for.
	operatorReplicas int32
}

func newEnvironment() *environment {
	GinkgoHelper()
	config, err := clientcmd.BuildConfigFromFlags("", mustGetenv("KUBECONFIG"))
	Expect(err).NotTo(HaveOccurred())
	config.QPS, config.Burst = 50, 100
	scheme := runtime.NewScheme()
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	c, err := client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	clientset, err := kubernetes.NewForConfig(config)
	Expect(err).NotTo(HaveOccurred())
	return &environment{
		config: config, client: c, clientset: clientset,
		kubectl: mustGetenv("KUBECTL"), nodeScript: os.Getenv("NODE_SH"),
		serverImage: mustGetenv("SERVER_IMAGE"), operatorImage: mustGetenv("OPERATOR_IMAGE"),
		logs: mustGetenv("E2E_LOGS"), direct: os.Getenv("REACH") == "direct",
	}
}

func mustGetenv(name string) string {
	GinkgoHelper()
	value := os.Getenv(name)
	Expect(value).NotTo(BeEmpty(), "%s is not set; run the suite with `make e2e`", name)
	return value
}

// kube runs kubectl with input on its standard input and returns what it prints.
func (e *environment) kube(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, e.kubectl, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// installOperator applies config/default as a user would, with the image under
// test, and waits for the operator. It runs as the shipped ServiceAccount.
func (e *environment) installOperator(ctx context.Context) {
	GinkgoHelper()
	e.manifest = e.renderOperator(ctx)
	_, err := e.kube(ctx, e.manifest, "apply", "--server-side", "--force-conflicts", "-f", "-")
	Expect(err).NotTo(HaveOccurred())
	_, err = e.kube(ctx, "", "wait", "--for=condition=Established", "crd/metastoreclusters.metastore.io", "--timeout=60s")
	Expect(err).NotTo(HaveOccurred())

	var deployments appsv1.DeploymentList
	Expect(e.client.List(ctx, &deployments)).To(Succeed())
	for _, d := range deployments.Items {
		for _, c := range d.Spec.Template.Spec.Containers {
			if c.Image == e.operatorImage {
				e.operator, e.operatorReplicas = client.ObjectKeyFromObject(&d), *d.Spec.Replicas
			}
		}
	}
	Expect(e.operator.Name).NotTo(BeEmpty(), "config/default has no Deployment with image %s", e.operatorImage)
	e.untilOperator(ctx)
}

// renderOperator lays a kustomization with the image under test over config/default.
func (e *environment) renderOperator(ctx context.Context) string {
	GinkgoHelper()
	base, err := filepath.Abs(filepath.Join("..", "config", "default"))
	Expect(err).NotTo(HaveOccurred())
	dir := GinkgoT().TempDir()
	relative, err := filepath.Rel(dir, base)
	Expect(err).NotTo(HaveOccurred())
	colon := strings.LastIndex(e.operatorImage, ":")
	Expect(colon).To(BeNumerically(">", strings.LastIndex(e.operatorImage, "/")), "OPERATOR_IMAGE=%s: want NAME:TAG", e.operatorImage)
	overlay := fmt.Sprintf(`apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [%q]
images: [{name: metastore.io/metastore-operator, newName: %q, newTag: %q}]
`, relative, e.operatorImage[:colon], e.operatorImage[colon+1:])
	Expect(os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(overlay), 0o600)).To(Succeed())
	rendered, err := e.kube(ctx, "", "kustomize", dir)
	Expect(err).NotTo(HaveOccurred())
	return rendered
}

func (e *environment) removeOperator(ctx context.Context) {
	GinkgoHelper()
	if e.manifest == "" {
		return
	}
	_, err := e.kube(ctx, e.manifest, "delete", "--ignore-not-found", "--wait=false", "-f", "-")
	Expect(err).NotTo(HaveOccurred())
}

// namespace makes a namespace for one container of specs; it goes with them.
// When a spec failed, what can be known of the namespace is kept first.
func (e *environment) namespace(ctx context.Context) string {
	GinkgoHelper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}
	Expect(e.client.Create(ctx, ns)).To(Succeed())
	if os.Getenv("KEEP") != "1" {
		DeferCleanup(func(ctx context.Context) {
			Expect(client.IgnoreNotFound(e.client.Delete(ctx, ns))).To(Succeed())
		})
	}
	return ns.Name
}

// power starts or stops a node, where the environment can.
func (e *environment) power(ctx context.Context, action, node string) {
	GinkgoHelper()
	out, err := exec.CommandContext(ctx, e.nodeScript, action, node).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s %s %s: %s", e.nodeScript, action, node, out)
}

// nodeReady reports whether Kubernetes counts a node as ready.
func (e *environment) nodeReady(ctx context.Context, name string) (bool, error) {
	var node corev1.Node
	if err := e.client.Get(ctx, client.ObjectKey{Name: name}, &node); err != nil {
		return false, err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue, nil
		}
	}
	return false, nil
}

// onNode runs a shell command on a node and returns what it prints.
func (e *environment) onNode(ctx context.Context, node, command string) string {
	GinkgoHelper()
	out, err := exec.CommandContext(ctx, e.nodeScript, "exec", node, "sh", "-euc", command).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "on %s: %s: %s", node, command, out)
	return strings.TrimSpace(string(out))
}

// untilGone waits until an object does not exist any more.
func (e *environment) untilGone(ctx context.Context, object client.Object) {
	GinkgoHelper()
	Eventually(func(ctx context.Context) bool {
		return apierrors.IsNotFound(e.client.Get(ctx, client.ObjectKeyFromObject(object), object))
	}).WithContext(ctx).WithTimeout(readyTimeout).Should(BeTrue(), "%T %s is still there", object, object.GetName())
}

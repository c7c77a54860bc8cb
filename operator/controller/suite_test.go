package controller

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"metastore.io/metastore/api/v1alpha1"
)

var (
	scheme = runtime.NewScheme()
	config *rest.Config
	// shipped is the config of a user with the rights that the operator is shipped
	// with, and no others.
	shipped *rest.Config
	// kube reads and writes without a cache, with every right.
	kube client.WithWatch
	// nodes runs every pod of the suite.
	nodes *kubelet
)

// TestController runs against a real API server and the real controllers of
// StatefulSets, claims and garbage; the kubelet and the members are faked.
func TestController(t *testing.T) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: it names the folder with etcd, kube-apiserver and kube-controller-manager (make test sets it)")
	}
	RegisterFailHandler(Fail)
	suite, reporter := GinkgoConfiguration()
	suite.Timeout = 15 * time.Minute
	RunSpecs(t, "operator/controller", suite, reporter)
}

var _ = BeforeSuite(func() {
	ctrl.SetLogger(GinkgoLogr)
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	env := &envtest.Environment{
		Scheme:                   scheme,
		CRDDirectoryPaths:        []string{filepath.Join("..", "..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: 2 * time.Minute,
		ControlPlaneStopTimeout:  time.Minute,
	}
	env.ControlPlane.GetAPIServer().Configure().
		Append("disable-admission-plugins", "ServiceAccount").
		Append("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	var err error
	config, err = env.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(env.Stop)
	config.QPS, config.Burst = 1000, 2000
	kube, err = client.NewWithWatch(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())

	user, err := env.AddUser(envtest.User{Name: "controllers", Groups: []string{"system:masters"}}, nil)
	Expect(err).NotTo(HaveOccurred())
	kubeconfig, err := user.KubeConfig()
	Expect(err).NotTo(HaveOccurred())
	startControllers(kubeconfig)
	makeWorld(context.Background())
	shipped = grantShippedRole(context.Background(), env)
	nodes = startKubelet()
})

// startControllers runs kube-controller-manager with the controllers that a
// StatefulSet needs.
func startControllers(kubeconfig []byte) {
	dir := GinkgoT().TempDir()
	file := filepath.Join(dir, "kubeconfig")
	Expect(os.WriteFile(file, kubeconfig, 0o600)).To(Succeed())
	cmd := exec.Command(filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kube-controller-manager"),
		"--kubeconfig="+file, "--authentication-kubeconfig="+file, "--authorization-kubeconfig="+file,
		"--leader-elect=false", "--cert-dir="+dir, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", freePort()),
		"--kube-api-qps=500", "--kube-api-burst=1000",
		"--controllers=statefulset-controller,persistentvolumeclaim-protection-controller,disruption-controller,"+
			"endpointslice-controller,garbage-collector-controller,namespace-controller,job-controller")
	cmd.Stdout, cmd.Stderr = GinkgoWriter, GinkgoWriter
	Expect(cmd.Start()).To(Succeed())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	DeferCleanup(func() {
		Expect(cmd.Process.Kill()).To(Succeed())
		<-ended
	})
}

// grantShippedRole makes a user with the role of config/rbac.
func grantShippedRole(ctx context.Context, env *envtest.Environment) *rest.Config {
	text, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	Expect(err).NotTo(HaveOccurred())
	role := &rbacv1.ClusterRole{}
	Expect(yaml.UnmarshalStrict(text, role)).To(Succeed())
	Expect(kube.Create(ctx, role)).To(Succeed())
	Expect(kube.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "operator"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "operator"}},
	})).To(Succeed())
	user, err := env.AddUser(envtest.User{Name: "operator"}, config)
	Expect(err).NotTo(HaveOccurred())
	return user.Config()
}

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// makeWorld makes what every spec needs: a node, a class that can grow and one
// that cannot.
func makeWorld(ctx context.Context) {
	Expect(kube.Create(ctx, newNode())).To(Succeed())
	for name, grows := range map[string]bool{"grows": true, "fixed": false} {
		Expect(kube.Create(ctx, &storagev1.StorageClass{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "test.metastore.io/none", AllowVolumeExpansion: &grows,
		})).To(Succeed())
	}
}

// newNode is the one node.
func newNode() *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{corev1.LabelHostname: nodeName}}}
}

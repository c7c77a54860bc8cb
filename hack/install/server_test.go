package install

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// startServer runs an API server with our kinds.
func startServer(t *testing.T) *rest.Config {
	t.Helper()
	t.Setenv("KUBEBUILDER_ASSETS", filepath.Dir(cache(t, "kubernetes", "assets", "kube-apiserver")))
	env := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(root, "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
	}
	config, err := env.Start()
	if err != nil {
		t.Fatalf("start the API server: %v", err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	return config
}

// startAPI runs an API server that judges strictly: an unknown field is an error.
func startAPI(t *testing.T) client.Client {
	t.Helper()
	c, err := client.New(startServer(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{namespace, "team", "store"} {
		if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	return client.WithFieldValidation(c, metav1.FieldValidationStrict)
}

// try has the API server judge an object without keeping it.
func try(ctx context.Context, c client.Client, o *unstructured.Unstructured) error {
	o = o.DeepCopy()
	if o.GetNamespace() == "" {
		o.SetNamespace("team") // which the API server ignores where there is none
		if namespaced, err := c.IsObjectNamespaced(o); err != nil || !namespaced {
			o.SetNamespace("")
		}
	}
	err := c.Create(ctx, o, client.DryRunAll)
	if apierrors.IsAlreadyExists(err) {
		return nil // it went through admission when it was made
	}
	return err
}

// TestAPIServerTakes what the charts, config and the samples give.
func TestAPIServerTakes(t *testing.T) {
	c := startAPI(t)
	given := map[string]objects{
		"the chart":                  template(t, "metastore", "--set", "networkPolicy.enabled=true,monitoring.dashboard=true"),
		"the chart in one namespace": template(t, "metastore", "--set", "watchNamespace=team,priorityClassName=high,replicas=1"),
		"the chart of a cluster":     template(t, "metastore-cluster", "--set", "spec.replicas=5,labels.a=b,annotations.c=d"),
		"config/default":             kustomize(t, "config/default"),
		"config/network-policy":      kustomize(t, "config/network-policy"),
		"config/samples":             kustomize(t, "config/samples"),
		"the example's operator":     kustomize(t, "config/gitops/example/operator"),
		"the example's clusters":     kustomize(t, "config/gitops/example/clusters"),
	}
	for name, all := range given {
		for _, key := range all.keys() {
			if err := try(t.Context(), c, all[key]); err != nil {
				t.Errorf("%s: %s: %v", name, key, err)
			}
		}
	}
	wrong := template(t, "metastore-cluster", "--set", "spec.storge.size=1Gi").of("MetaStoreCluster")[0]
	if err := try(t.Context(), c, wrong); err == nil || !strings.Contains(err.Error(), `unknown field "spec.storge"`) {
		t.Errorf("a field that does not exist: got %v", err)
	}
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

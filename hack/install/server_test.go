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

// definitions are the folders of our kinds' definitions and of those of others.
var definitions = []string{filepath.Join(root, "config", "crd", "bases"), filepath.Join("testdata", "kinds")}

// startServer runs an API server with our kinds and those of others that the
// charts, config and the examples use.
func startServer(t *testing.T) *rest.Config {
	t.Helper()
	t.Setenv("KUBEBUILDER_ASSETS", filepath.Dir(cache(t, "kubernetes", "assets", "kube-apiserver")))
	env := &envtest.Environment{
		CRDDirectoryPaths:     definitions,
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
	for _, name := range []string{namespace, "team", "store", "argocd", "flux-system"} {
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
		"the chart":                  template(t, "metastore", everything...),
		"the chart in one namespace": template(t, "metastore", "--set", "watchNamespace=team,priorityClassName=high,replicas=1,monitoring.monitors=true"),
		"the chart of a cluster":     template(t, "metastore-cluster", "--set", "spec.replicas=5,labels.a=b,annotations.c=d"),
		"config/default":             kustomize(t, "config/default"),
		"config/network-policy":      kustomize(t, "config/network-policy"),
		"config/monitoring":          kustomize(t, "config/monitoring"),
		"config/samples":             kustomize(t, "config/samples"),
		"the example's operator":     kustomize(t, "config/gitops/example/operator"),
		"the example's clusters":     kustomize(t, "config/gitops/example/clusters"),
		"the example for Argo CD":    kustomize(t, "config/gitops/example/argocd"),
		"the example for Flux":       kustomize(t, "config/gitops/example/flux"),
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

// TestAPIServerKnowsTheKindsOfOthers: a mistake in any of their objects is found.
func TestAPIServerKnowsTheKindsOfOthers(t *testing.T) {
	c := startAPI(t)
	kinds := map[string]bool{}
	for _, folder := range []string{"config/monitoring", "config/gitops/example/argocd", "config/gitops/example/flux"} {
		for key, o := range kustomize(t, folder) {
			if o.GroupVersionKind().Group == "" {
				continue // the dashboard
			}
			kinds[o.GetKind()] = true
			if err := unstructured.SetNestedField(o.Object, "x", "spec", "intervall"); err != nil {
				t.Fatal(err)
			}
			if err := try(t.Context(), c, o); err == nil || !strings.Contains(err.Error(), `unknown field "spec.intervall"`) {
				t.Errorf("%s with a field that does not exist: got %v", key, err)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "kinds", "*.yaml"))
	if err != nil || len(files) != len(kinds) {
		t.Errorf("%d definitions for %d kinds that are used, %v", len(files), len(kinds), err)
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

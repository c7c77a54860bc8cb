package install

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// everything has the chart render all that it can.
var everything = []string{"--set", "monitoring.monitors=true,monitoring.rules=true,monitoring.dashboard=true,networkPolicy.enabled=true"}

func TestHelmAndKustomizeGiveTheSame(t *testing.T) {
	byKustomize := kustomize(t, "config/default")
	compare(t, template(t, "metastore"), byKustomize)
	for _, folder := range []string{"config/monitoring", "config/network-policy"} {
		for key, o := range kustomize(t, folder) {
			byKustomize[key] = o
		}
	}
	compare(t, template(t, "metastore", everything...), byKustomize)
}

// compare leaves out what is helm's own, and the namespace, which helm makes by
// --create-namespace.
func compare(t *testing.T, byHelm, byKustomize objects) {
	t.Helper()
	for _, o := range byHelm {
		for _, path := range [][]string{{"metadata", "labels"}, {"spec", "template", "metadata", "labels"}} {
			for _, label := range []string{"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"} {
				unstructured.RemoveNestedField(o.Object, append(path, label)...)
			}
		}
		unstructured.RemoveNestedField(o.Object, "metadata", "annotations", "helm.sh/resource-policy")
	}
	want := objects{}
	for key, o := range byKustomize {
		if o.GetKind() != "Namespace" {
			want[key] = o
		}
	}
	if difference := cmp.Diff(want.keys(), byHelm.keys()); difference != "" {
		t.Fatalf("config (-) and chart (+) have other objects:\n%s", difference)
	}
	for _, key := range want.keys() {
		if difference := cmp.Diff(text(t, want[key]), text(t, byHelm[key])); difference != "" {
			t.Errorf("%s differs between config (-) and chart (+):\n%s", key, difference)
		}
	}
}

func TestChartsPassLint(t *testing.T) {
	for _, chart := range []string{"metastore", "metastore-cluster"} {
		if out, err := helm(t, "lint", "--strict", filepath.Join(root, "charts", chart)); err != nil {
			t.Errorf("helm lint: %v\n%s", err, out)
		}
	}
}

func TestWrongValuesAreRefused(t *testing.T) {
	for _, c := range []struct{ chart, set, want string }{
		{"metastore", "imagee.tag=1", "additional properties 'imagee' not allowed"},
		{"metastore", "image.tagg=1", "'/image': additional properties 'tagg' not allowed"},
		{"metastore", "image.repository=metastore:1", "'/image/repository': 'metastore:1' does not match pattern"},
		{"metastore", "image.digest=sha256:12", "'/image/digest': 'sha256:12' does not match pattern"},
		{"metastore", "image.pullPolicy=Sometimes", "'/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"},
		{"metastore", "serverImage.pullPolicy=Always", "'/serverImage/pullPolicy'"},
		{"metastore", "replicas=-1", "'/replicas': minimum: got -1, want 0"},
		{"metastore", "replicas=two", "'/replicas': got string, want integer"},
		{"metastore", "watchNamespace=Team", "'/watchNamespace': 'Team' does not match pattern"},
		{"metastore", "extraArgs[0]=log-level", "'/extraArgs/0': 'log-level' does not match pattern"},
		{"metastore", "monitoring.rules=yes", "'/monitoring/rules': got string, want boolean"},
		{"metastore", "crds.keep=true", "'/crds': additional properties 'keep' not allowed"},
		{"metastore-cluster", "spec.replicas=2", "'/spec/replicas': value must be one of 1, 3, 5, 7"},
		{"metastore-cluster", "replicas=3", "additional properties 'replicas' not allowed"},
		{"metastore-cluster", "name=Store", "'/name': 'Store' does not match pattern"},
	} {
		out, err := helm(t, "template", "x", filepath.Join(root, "charts", c.chart), "--set", c.set)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s --set %s: want an error with %q, got %v:\n%.600s", c.chart, c.set, c.want, err, out)
		}
	}
}

func TestImagesOfTheChart(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct{ set, operator, server string }{
		{"replicas=2", "metastore.io/metastore-operator:0.1.0", "metastore.io/metastore:0.1.0"},
		{"image.registry=mirror.test:5000,serverImage.registry=mirror.test:5000", "mirror.test:5000/metastore-operator:0.1.0", "mirror.test:5000/metastore:0.1.0"},
		{"image.registry=,image.repository=a.test/b/c,image.tag=v2", "a.test/b/c:v2", "metastore.io/metastore:0.1.0"},
		{"image.digest=" + digest + ",serverImage.digest=" + digest + ",serverImage.tag=v3", "metastore.io/metastore-operator@" + digest, "metastore.io/metastore:v3@" + digest},
	} {
		d := template(t, "metastore", "--set", c.set).of("Deployment")[0]
		containers, _, _ := unstructured.NestedSlice(d.Object, "spec", "template", "spec", "containers")
		container := containers[0].(map[string]any)
		if container["image"] != c.operator {
			t.Errorf("%s: the operator's image is %v, want %s", c.set, container["image"], c.operator)
		}
		if arguments := fmt.Sprint(container["args"]); !strings.Contains(arguments, "--server-image="+c.server+"]") {
			t.Errorf("%s: the arguments are %s, want the server's image %s", c.set, arguments, c.server)
		}
	}
}

// right is one verb on one resource.
type right struct{ group, resource, verb string }

func rights(t *testing.T, o *unstructured.Unstructured) []right {
	t.Helper()
	role := rbacv1.ClusterRole{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
		t.Fatal(err)
	}
	var out []right
	for _, rule := range role.Rules {
		for _, g := range rule.APIGroups {
			for _, r := range rule.Resources {
				for _, v := range rule.Verbs {
					out = append(out, right{g, r, v})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b right) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return out
}

func TestNamespacedRightsAreAllRights(t *testing.T) {
	all := template(t, "metastore")["ClusterRole /metastore-operator"]
	one := template(t, "metastore", "--set", "watchNamespace=team")
	role, reads := one["Role team/metastore-operator"], one["ClusterRole /metastore-operator-"+namespace]
	if role == nil || reads == nil {
		t.Fatalf("want a Role and a ClusterRole, got %v", one.keys())
	}
	for _, r := range rights(t, reads) {
		if r.verb != "get" && r.verb != "list" {
			t.Errorf("an operator of one namespace may %s %s everywhere", r.verb, r.resource)
		}
	}
	union := append(rights(t, role), rights(t, reads)...)
	slices.SortFunc(union, func(a, b right) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	if difference := cmp.Diff(rights(t, all), union, cmp.AllowUnexported(right{})); difference != "" {
		t.Errorf("cluster-wide (-), in one namespace (+):\n%s", difference)
	}
	none := template(t, "metastore", "--set", "watchNamespace=team,clusterReads=false,userRoles=false")
	if roles := append(none.of("ClusterRole"), none.of("ClusterRoleBinding")...); len(roles) > 0 {
		t.Errorf("without clusterReads and userRoles there are %d objects with rights everywhere", len(roles))
	}
}

func TestUsersHaveRightsOnEveryKind(t *testing.T) {
	rendered := template(t, "metastore")
	view, edit := rights(t, rendered["ClusterRole /metastore-operator-view"]), rights(t, rendered["ClusterRole /metastore-operator-edit"])
	for _, crd := range rendered.of("CustomResourceDefinition") {
		plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
		if !slices.Contains(view, right{"metastore.io", plural, "watch"}) {
			t.Errorf("who may view a namespace may not watch its %s", plural)
		}
		if !slices.Contains(edit, right{"metastore.io", plural, "create"}) {
			t.Errorf("who may edit a namespace may not create its %s", plural)
		}
	}
}

func TestDefinitionsOutliveTheChart(t *testing.T) {
	rendered := template(t, "metastore").of("CustomResourceDefinition")
	files, err := filepath.Glob(filepath.Join(root, "config", "crd", "bases", "*.yaml"))
	if err != nil || len(files) == 0 || len(files) != len(rendered) {
		t.Fatalf("%d definitions in config, %d in the chart, %v", len(files), len(rendered), err)
	}
	for _, crd := range rendered {
		if crd.GetAnnotations()["helm.sh/resource-policy"] != "keep" {
			t.Errorf("helm uninstall would delete %s, and every object of its kind", crd.GetName())
		}
	}
	if left := template(t, "metastore", "--set", "crds.install=false").of("CustomResourceDefinition"); len(left) > 0 {
		t.Errorf("crds.install=false leaves %d definitions", len(left))
	}
}

// TestManifestHasTheImagesOfTheVersion judges the file that `make manifest` gives.
func TestManifestHasTheImagesOfTheVersion(t *testing.T) {
	file := filepath.Join(t.TempDir(), "metastore.yaml")
	cache(t, "kubernetes", "assets", "kubectl")
	out, err := command(filepath.Join(root, "hack", "manifest.sh"), file,
		"OPERATOR_IMAGE=mirror.test/operator:9", "SERVER_IMAGE=mirror.test/server:9").CombinedOutput()
	if err != nil {
		t.Fatalf("manifest.sh: %v\n%s", err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	manifest, base := parse(t, string(data)), kustomize(t, "config/default")
	if difference := cmp.Diff(base.keys(), manifest.keys()); difference != "" {
		t.Fatalf("config/default (-), the manifest (+):\n%s", difference)
	}
	deployment, err := json.Marshal(manifest.of("Deployment")[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"image":"mirror.test/operator:9"`, `"--server-image=mirror.test/server:9"`} {
		if !strings.Contains(string(deployment), want) {
			t.Errorf("%s is not in the manifest's Deployment", want)
		}
	}
}

// TestVersionsAgree: one version for the charts, config and the Makefile.
func TestVersionsAgree(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"metastore", "metastore-cluster"} {
		data, err := os.ReadFile(filepath.Join(root, "charts", name, "Chart.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var chart struct{ Version, AppVersion string }
		if err := yaml.Unmarshal(data, &chart); err != nil {
			t.Fatal(err)
		}
		if chart.Version != chart.AppVersion || !strings.Contains(string(makefile), "VERSION        ?= "+chart.Version+"\n") {
			t.Errorf("chart %s has version %s and appVersion %s; the Makefile has another one", name, chart.Version, chart.AppVersion)
		}
	}
}

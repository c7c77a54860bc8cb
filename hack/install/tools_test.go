// Package install holds the tests of what users install: the charts, what is in
// config, and the documents. They run helm and kubectl as users do, and an API
// server judges what these render.
package install

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	root      = "../.."
	namespace = "metastore-system"
)

// cache is where make keeps what it builds once.
func cache(t *testing.T, path ...string) string {
	t.Helper()
	folder := os.Getenv("METASTORE_CACHE")
	if folder == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		folder = filepath.Join(home, ".cache", "metastore")
	}
	file := filepath.Join(append([]string{folder}, path...)...)
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("%s is not there: `make test` gets it", file)
	}
	return file
}

func helm(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(cache(t, "kubernetes", "bin", "helm"), arguments...)
	// No repositories, plugins or settings of whoever runs the test.
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG=/dev/null")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		return errs.String() + out.String(), err
	}
	return out.String(), nil
}

// template renders a chart as the release metastore.
func template(t *testing.T, chart string, arguments ...string) objects {
	t.Helper()
	out, err := helm(t, append([]string{"template", "metastore", filepath.Join(root, "charts", chart), "--namespace", namespace}, arguments...)...)
	if err != nil {
		t.Fatalf("helm template %s %v: %v\n%s", chart, arguments, err, out)
	}
	return parse(t, out)
}

func kustomize(t *testing.T, folder string) objects {
	t.Helper()
	return kustomizeAt(t, filepath.Join(root, folder))
}

func kustomizeAt(t *testing.T, folder string) objects {
	t.Helper()
	out, err := exec.Command(cache(t, "kubernetes", "assets", "kubectl"), "kustomize", folder).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl kustomize %s: %v\n%s", folder, err, out)
	}
	return parse(t, string(out))
}

// objects are by "Kind namespace/name".
type objects map[string]*unstructured.Unstructured

func parse(t *testing.T, text string) objects {
	t.Helper()
	out := objects{}
	for _, document := range strings.Split("\n"+text, "\n---") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if len(o.Object) == 0 {
			continue
		}
		key := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		if out[key] != nil {
			t.Fatalf("%s is there twice", key)
		}
		out[key] = o
	}
	if len(out) == 0 {
		t.Fatal("nothing was rendered")
	}
	return out
}

func (o objects) keys() []string { return slices.Sorted(maps.Keys(o)) }

// of returns the objects of one kind.
func (o objects) of(kind string) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, key := range o.keys() {
		if o[key].GetKind() == kind {
			out = append(out, o[key])
		}
	}
	return out
}

func text(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	out, err := yaml.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// command runs a script with further variables in its environment.
func command(script, argument string, environment ...string) *exec.Cmd {
	cmd := exec.Command(script, argument)
	cmd.Env = append(os.Environ(), environment...)
	return cmd
}

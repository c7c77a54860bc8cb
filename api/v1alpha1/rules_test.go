package v1alpha1_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

// startAPI runs an API server with this package's CRDs.
func startAPI(t *testing.T) client.Client {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: the rules are judged by a real kube-apiserver; `make test` sets it")
	}
	env := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd", "bases")},
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
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// manifest is the smallest valid cluster with the given lines laid over it. A
// line is "path: value"; the value is YAML, and "-" removes the field.
func manifest(t *testing.T, lines ...string) *unstructured.Unstructured {
	t.Helper()
	return manifestOf(t, "MetaStoreCluster", lines...)
}

// smallest are the specs of the smallest valid objects.
var smallest = map[string]string{
	"MetaStoreCluster": "{replicas: 3, storage: {size: 1Gi}}",
}

// manifestOf is the same of any kind.
func manifestOf(t *testing.T, kind string, lines ...string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	base := fmt.Sprintf("{apiVersion: metastore.io/v1alpha1, kind: %s, metadata: {name: store, namespace: default}, spec: %s}", kind, smallest[kind])
	if err := yaml.Unmarshal([]byte(base), &o.Object); err != nil {
		t.Fatal(err)
	}
	overlay(t, o, lines)
	return o
}

func overlay(t *testing.T, o *unstructured.Unstructured, lines []string) {
	t.Helper()
	for _, line := range lines {
		path, text, _ := strings.Cut(line, ": ")
		fields := strings.Split(path, ".")
		if fields[0] != "metadata" {
			fields = append([]string{"spec"}, fields...)
		}
		if text == "-" {
			unstructured.RemoveNestedField(o.Object, fields...)
			continue
		}
		var wrapped map[string]any
		if err := yaml.Unmarshal([]byte("v: "+text), &wrapped); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		value := wrapped["v"]
		if number, ok := value.(float64); ok {
			value = int64(number)
		}
		if err := unstructured.SetNestedField(o.Object, value, fields...); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
	}
}

// judges compares answers of the API server with what is expected, and keeps
// every refusal, so that no rule stays untried.
type judges struct{ refusals []string }

// judge expects no error where there are no fragments, otherwise a refusal as
// invalid that says each of them.
func (j *judges) judge(t *testing.T, err error, fragments []string) {
	t.Helper()
	if err != nil {
		j.refusals = append(j.refusals, err.Error())
	}
	if len(fragments) == 0 {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if !apierrors.IsInvalid(err) {
		t.Errorf("got %v, want a refusal that says %q", err, fragments)
		return
	}
	for _, f := range fragments {
		if !strings.Contains(err.Error(), f) {
			t.Errorf("the refusal does not say %q: %v", f, err)
		}
	}
}

func TestRules(t *testing.T) {
	c := startAPI(t)
	j := &judges{}
	t.Run("create", func(t *testing.T) {
		for _, tc := range creations {
			t.Run(tc.name, func(t *testing.T) {
				j.judge(t, c.Create(context.Background(), manifest(t, tc.lines...), client.DryRunAll), tc.refusal)
			})
		}
	})
	t.Run("other kinds", func(t *testing.T) {
		for _, tc := range otherKinds {
			t.Run(tc.kind+" "+tc.name, func(t *testing.T) { j.otherKind(t, c, tc) })
		}
	})
	t.Run("update", func(t *testing.T) {
		for i, tc := range updates {
			t.Run(tc.name, func(t *testing.T) { j.update(t, c, fmt.Sprintf("update-%d", i), tc) })
		}
	})
	t.Run("scale", func(t *testing.T) { j.scale(t, c) })
	t.Run("versions", func(t *testing.T) { j.versions(t, c) })
	t.Run("nothing is added to the spec but the engine", func(t *testing.T) { defaults(t, c) })
	t.Run("samples", func(t *testing.T) { samples(t, c) })
	t.Run("install", func(t *testing.T) { install(t, c) })
	t.Run("every rule was broken once", func(t *testing.T) { j.complete(t) })
}

// complete asks that each rule of the CRDs has refused something above.
func (j *judges) complete(t *testing.T) {
	var rules []string
	for _, file := range manifests(t, "crd") {
		for _, crd := range read(t, file) {
			rules = append(rules, messages(crd.Object)...)
		}
	}
	if len(rules) < 60 {
		t.Fatalf("the CRDs have only %d rules with a message", len(rules))
	}
	for _, rule := range rules {
		sentence, _, _ := strings.Cut(strings.TrimPrefix(rule, "'"), "'.format(")
		said := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(sentence), "%s", ".*"))
		if !slices.ContainsFunc(j.refusals, said.MatchString) {
			t.Errorf("no case breaks the rule that says %q", sentence)
		}
	}
}

// messages finds the message expressions of all rules below a node.
func messages(node any) []string {
	var out []string
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			out = append(out, messages(child)...)
		}
	case map[string]any:
		for key, child := range n {
			if text, ok := child.(string); ok && key == "messageExpression" {
				out = append(out, text)
			}
			out = append(out, messages(child)...)
		}
	}
	return out
}

func (j *judges) update(t *testing.T, c client.Client, name string, tc updateCase) {
	ctx := context.Background()
	o := manifest(t, tc.before...)
	o.SetName(name)
	if err := c.Create(ctx, o); err != nil {
		t.Fatal(err)
	}
	overlay(t, o, tc.change)
	j.judge(t, c.Update(ctx, o, client.DryRunAll), tc.refusal)
}

// scale goes through the scale subresource, which kubectl scale and autoscalers use.
func (j *judges) scale(t *testing.T, c client.Client) {
	ctx := context.Background()
	o := manifest(t)
	o.SetName("scaled")
	if err := c.Create(ctx, o); err != nil {
		t.Fatal(err)
	}
	for replicas, refusal := range map[int64][]string{
		5: nil,
		2: {"replicas is 2; allowed are 1, 3, 5 and 7"},
		0: {"replicas is 0; allowed are 1, 3, 5 and 7"},
	} {
		body := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "autoscaling/v1", "kind": "Scale",
			"metadata": map[string]any{"name": o.GetName(), "namespace": o.GetNamespace()},
			"spec":     map[string]any{"replicas": replicas},
		}}
		j.judge(t, c.SubResource("scale").Update(ctx, o.DeepCopy(), client.WithSubResourceBody(body)), refusal)
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	if got, _, err := unstructured.NestedInt64(o.Object, "spec", "replicas"); err != nil || got != 5 {
		t.Errorf("after scaling to 5 the spec has %d replicas (%v)", got, err)
	}
}

// versions changes the version of a cluster whose members run 1.4.2.
func (j *judges) versions(t *testing.T, c client.Client) {
	ctx := context.Background()
	for i, tc := range []struct{ from, to, refusal string }{
		{from: "1.4.2", to: "1.4.7"},
		{from: "1.4.2", to: "v1.5.0-rc.1"},
		{from: "-", to: "1.5.0"},
		{from: "1.4.2", to: "-"},
		{from: "1.5.0", to: "1.4.1"}, // which no member has begun to run, or could
		{from: "1.4.2", to: "1.6.0", refusal: "version is 1.6.0, and the members run 1.4.2; allowed is the same minor version or the next"},
		{from: "1.5.0", to: "1.3.9", refusal: "version is 1.3.9, and the members run 1.4.2"},
		{from: "1.4.2", to: "2.0.0", refusal: "version is 2.0.0, and the members run 1.4.2"},
		{from: "-", to: "v1.14.0", refusal: "version is v1.14.0, and the members run 1.4.2"},
	} {
		t.Run("from "+tc.from+" to "+tc.to, func(t *testing.T) {
			o := manifest(t, "version: "+tc.from)
			o.SetName(fmt.Sprintf("version-%d", i))
			if err := c.Create(ctx, o); err != nil {
				t.Fatal(err)
			}
			o.Object["status"] = map[string]any{"version": "1.4.2"}
			if err := c.Status().Update(ctx, o); err != nil {
				t.Fatal(err)
			}
			overlay(t, o, lines("version: "+tc.to))
			var refusal []string
			if tc.refusal != "" {
				refusal = lines("spec.version", tc.refusal)
			}
			j.judge(t, c.Update(ctx, o), refusal)
			if tc.refusal == "" { // which the operator can go on reporting on
				o.Object["status"] = map[string]any{"version": "1.9.0"}
				j.judge(t, c.Status().Update(ctx, o), nil)
			}
		})
	}
}

// defaults pins that nothing drifts under GitOps: what was applied is what is there.
func defaults(t *testing.T, c client.Client) {
	ctx := context.Background()
	lines := []string{"server: {}", "rocksdb: {}", "podTemplate: {spec: {securityContext: {}}, metadata: {}}", "resources: {}"}
	o := manifest(t, lines...)
	o.SetName("plain")
	if err := c.Create(ctx, o); err != nil {
		t.Fatal(err)
	}
	want := manifest(t, append(lines, "engine: RocksDB")...)
	got, wanted := fmt.Sprint(o.Object["spec"]), fmt.Sprint(want.Object["spec"])
	if got != wanted {
		t.Errorf("the spec became %s, want %s", got, wanted)
	}
}

func samples(t *testing.T, c client.Client) {
	files := manifests(t, "samples")
	if len(files) < 3 {
		t.Fatalf("found the samples %q", files)
	}
	for _, file := range files {
		for _, o := range read(t, file) {
			o.SetNamespace("default")
			if err := c.Create(context.Background(), o, client.DryRunAll, client.FieldValidation("Strict")); err != nil {
				t.Errorf("%s is refused: %v", file, err)
			}
		}
	}
}

// install creates what config/default consists of.
func install(t *testing.T, c client.Client) {
	for _, file := range append(manifests(t, "manager"), manifests(t, "rbac")...) {
		for _, o := range read(t, file) {
			if err := c.Create(context.Background(), o, client.FieldValidation("Strict")); err != nil {
				t.Errorf("%s, %s: %v", file, o.GetKind(), err)
			}
		}
	}
}

// manifests lists the files that a folder of config names in its kustomization.
func manifests(t *testing.T, folder string) []string {
	t.Helper()
	dir := filepath.Join("..", "..", "config", folder)
	text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Resources []string         `json:"resources"`
		Labels    []map[string]any `json:"labels"`
	}
	if err := yaml.UnmarshalStrict(text, &list); err != nil {
		t.Fatal(err)
	}
	for i, name := range list.Resources {
		list.Resources[i] = filepath.Join(dir, name)
	}
	return list.Resources
}

// read gives the objects of a file.
func read(t *testing.T, file string) []*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for _, doc := range strings.Split(string(text), "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(strings.TrimPrefix(doc, "---\n")), &o.Object); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, o)
	}
	return out
}

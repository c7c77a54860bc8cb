package install

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

// health is what Argo CD makes of an object, with our Lua in the interpreter
// that it has; kstatus is what Flux and others make of it. Clusters were recorded
// by the operator's specs; the others have the conditions that it writes.
var health = map[string]struct {
	argo    string
	kstatus status.Status
}{
	"cluster-new":        {"Progressing", status.InProgressStatus},
	"cluster-ready":      {"Healthy", status.CurrentStatus},
	"cluster-changed":    {"Progressing", status.InProgressStatus},
	"cluster-rolling":    {"Progressing", status.InProgressStatus},
	"cluster-stalled":    {"Degraded", status.FailedStatus},
	"cluster-paused":     {"Suspended", status.CurrentStatus},
	"cluster-hibernated": {"Suspended", status.InProgressStatus},
	"backup-running":     {"Progressing", status.InProgressStatus},
	"backup-waiting":     {"Degraded", status.FailedStatus},
	"backup-complete":    {"Healthy", status.CurrentStatus},
	"backup-failed":      {"Degraded", status.FailedStatus},
	"schedule-ready":     {"Healthy", status.CurrentStatus},
	"schedule-suspended": {"Suspended", status.CurrentStatus},
	"schedule-invalid":   {"Degraded", status.FailedStatus},
	"restore-running":    {"Progressing", status.InProgressStatus},
	"restore-complete":   {"Healthy", status.CurrentStatus},
	"restore-failed":     {"Degraded", status.FailedStatus},
}

func TestHealth(t *testing.T) {
	script := readFile(t, "config", "gitops", "argocd", "health.lua")
	files, err := filepath.Glob(filepath.Join("testdata", "health", "*.yaml"))
	if err != nil || len(files) != len(health) {
		t.Fatalf("%d recorded objects, %d expectations, %v", len(files), len(health), err)
	}
	for name, want := range health {
		data, err := os.ReadFile(filepath.Join("testdata", "health", name+".yaml"))
		if err != nil {
			t.Error(err)
			continue
		}
		o := &unstructured.Unstructured{}
		if data, err = yaml.YAMLToJSON(data); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := o.UnmarshalJSON(data); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, message := argoHealth(t, script, o); got != want.argo {
			t.Errorf("%s: Argo CD says %s (%s), want %s", name, got, message, want.argo)
		}
		result, err := status.Compute(o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if result.Status != want.kstatus {
			t.Errorf("%s: kstatus says %s (%s), want %s", name, result.Status, result.Message, want.kstatus)
		}
	}
}

// TestWhatNobodyHasSeenIsInProgress makes an object of every kind where there is
// no operator.
func TestWhatNobodyHasSeenIsInProgress(t *testing.T) {
	c := startAPI(t)
	script := readFile(t, "config", "gitops", "argocd", "health.lua")
	kinds := map[string]bool{}
	for _, o := range kustomize(t, "config/samples") {
		o.SetNamespace("team")
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		kinds[o.GetKind()] = true
		if word, _ := argoHealth(t, script, o); word != "Progressing" {
			t.Errorf("Argo CD says that a new %s is %s", o.GetKind(), word)
		}
		if result, err := status.Compute(o); err != nil || result.Status != status.InProgressStatus {
			t.Errorf("kstatus says that a new %s is %v, %v", o.GetKind(), result, err)
		}
	}
	if all := kustomize(t, "config/crd").of("CustomResourceDefinition"); len(kinds) != len(all) {
		t.Errorf("config/samples has %d of %d kinds", len(kinds), len(all))
	}
}

// argoHealth runs a health script as Argo CD does: the object is the global obj,
// and only the libraries that it opens are there.
func argoHealth(t *testing.T, script string, o *unstructured.Unstructured) (word, message string) {
	t.Helper()
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.StringLibName: lua.OpenString,
	} {
		l.Push(l.NewFunction(open))
		l.Push(lua.LString(name))
		l.Call(1, 0)
	}
	plain, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	var object any
	if err := json.Unmarshal(plain, &object); err != nil {
		t.Fatal(err)
	}
	l.SetGlobal("obj", luaValue(l, object))
	if err := l.DoString(script); err != nil {
		t.Fatalf("health.lua: %v", err)
	}
	answer, ok := l.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("health.lua returned %s", l.Get(-1).Type())
	}
	return answer.RawGetString("status").String(), answer.RawGetString("message").String()
}

// luaValue is a JSON value in Lua.
func luaValue(l *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case bool:
		return lua.LBool(v)
	case float64:
		return lua.LNumber(v)
	case string:
		return lua.LString(v)
	case []any:
		table := l.NewTable()
		for _, e := range v {
			table.Append(luaValue(l, e))
		}
		return table
	case map[string]any:
		table := l.NewTable()
		for k, e := range v {
			table.RawSetString(k, luaValue(l, e))
		}
		return table
	}
	return lua.LNil
}

// TestArgoKnowsEveryKind lays the component over an argocd-cm, as a user would.
func TestArgoKnowsEveryKind(t *testing.T) {
	folder := t.TempDir()
	component, err := filepath.Abs(filepath.Join(root, "config", "gitops", "argocd"))
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(folder, component)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"kustomization.yaml": "resources: [argocd-cm.yaml]\ncomponents: [" + relative + "]\n",
		"argocd-cm.yaml":     "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: argocd-cm}\ndata: {url: https://argocd.test}\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rendered := kustomizeAt(t, folder).of("ConfigMap")
	if len(rendered) != 1 || rendered[0].GetName() != "argocd-cm" {
		t.Fatalf("want argocd-cm alone, got %v", rendered)
	}
	data, _, _ := unstructured.NestedStringMap(rendered[0].Object, "data")
	if data["url"] == "" {
		t.Error("what argocd-cm had is lost")
	}
	script := strings.TrimSpace(readFile(t, "config", "gitops", "argocd", "health.lua"))
	for _, crd := range kustomize(t, "config/crd").of("CustomResourceDefinition") {
		kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
		if strings.TrimSpace(data["resource.customizations.health.metastore.io_"+kind]) != script {
			t.Errorf("Argo CD is not told of the health of %s", kind)
		}
	}
}

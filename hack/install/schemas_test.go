package install

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/rest"

	"metastore.io/metastore/api/v1alpha1"
)

// ofPrometheus are the kinds that an API server knows only with the Prometheus operator.
const ofPrometheus = "ServiceMonitor,PodMonitor,PrometheusRule"

// TestKubeconformPasses has kubeconform judge what helm renders, by the schemas
// of the API server and of our definitions: no network, and no older ones.
func TestKubeconformPasses(t *testing.T) {
	schemas := writeSchemas(t, startServer(t))
	for name, arguments := range map[string][]string{
		"metastore":                  everything,
		"metastore in one namespace": {"--set", "watchNamespace=team"},
		"metastore-cluster":          nil,
	} {
		chart, _, _ := strings.Cut(name, " ")
		rendered, err := helm(t, append([]string{"template", "x", filepath.Join(root, "charts", chart)}, arguments...)...)
		if err != nil {
			t.Fatalf("helm template: %v\n%s", err, rendered)
		}
		if out, err := kubeconform(t, schemas, rendered); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	wrong := "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {prots: []}\n"
	if out, err := kubeconform(t, schemas, wrong); err == nil || !strings.Contains(out, "prots") {
		t.Errorf("a field that does not exist passes: %v\n%s", err, out)
	}
}

func kubeconform(t *testing.T, schemas, manifests string) (string, error) {
	t.Helper()
	cmd := exec.Command(cache(t, "tools", "kubeconform"), "-strict", "-summary", "-skip", ofPrometheus,
		"-schema-location", filepath.Join(schemas, "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json"))
	cmd.Stdin = strings.NewReader(manifests)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// writeSchemas writes one JSON schema for each kind that the API server knows.
func writeSchemas(t *testing.T, config *rest.Config) string {
	t.Helper()
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	var paths map[string]openapi.GroupVersion
	ours := "apis/" + v1alpha1.GroupVersion.String()
	// The API server publishes the schemas of definitions a moment after them.
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		paths, err = client.OpenAPIV3().Paths()
		return paths[ours] != nil, err
	})
	if err != nil {
		t.Fatalf("schemas of %s: %v", ours, err)
	}
	folder := t.TempDir()
	for path, group := range paths {
		if !strings.Contains(path, "/") {
			continue // /version and the like
		}
		data, err := group.Schema("application/json")
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if err := writeKinds(folder, data); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return folder
}

// writeKinds takes one group's document apart.
func writeKinds(folder string, document []byte) error {
	var doc struct {
		Components struct {
			Schemas map[string]map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return err
	}
	for _, schema := range doc.Components.Schemas {
		if schema["properties"] != nil && schema["additionalProperties"] == nil {
			schema["additionalProperties"] = false
		}
	}
	for name, schema := range doc.Components.Schemas {
		kinds, _ := schema["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue // types that every group has
		}
		kind := kinds[0].(map[string]any)
		group := kind["group"]
		if group == "" {
			group = kind["version"] // kubeconform's name of the core group
		}
		file := fmt.Sprintf("%s_%s_%s.json", group, kind["version"], strings.ToLower(kind["kind"].(string)))
		data, err := json.Marshal(map[string]any{"$ref": "#/components/schemas/" + name, "components": doc.Components})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, file), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

package install

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

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
	for _, kind := range []string{"v1\nkind: Service", "monitoring.coreos.com/v1\nkind: PodMonitor"} {
		wrong := "apiVersion: " + kind + "\nmetadata: {name: x}\nspec: {selector: {}, prots: []}\n"
		if out, err := kubeconform(t, schemas, wrong); err == nil || !strings.Contains(out, "prots") {
			t.Errorf("%s: a field that does not exist passes: %v\n%s", kind, err, out)
		}
	}
}

func kubeconform(t *testing.T, schemas, manifests string) (string, error) {
	t.Helper()
	cmd := exec.Command(cache(t, "tools", "kubeconform"), "-strict", "-summary",
		"-schema-location", filepath.Join(schemas, "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json"))
	cmd.Stdin = strings.NewReader(manifests)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// writeSchemas writes one JSON schema for each kind that the API server knows.
// It publishes those of definitions a moment after them, one after the other.
func writeSchemas(t *testing.T, config *rest.Config) string {
	t.Helper()
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	var missing []string
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		if err := writeGroups(folder, client); err != nil {
			return false, err
		}
		missing = slices.DeleteFunc(schemasOfDefinitions(t), func(name string) bool {
			_, err := os.Stat(filepath.Join(folder, name))
			return err == nil
		})
		return len(missing) == 0, nil
	})
	if err != nil {
		t.Fatalf("schemas of the API server: %v; missing are %v", err, missing)
	}
	return folder
}

func writeGroups(folder string, client discovery.DiscoveryInterface) error {
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		return err
	}
	for path, group := range paths {
		if !strings.Contains(path, "/") {
			continue // /version and the like
		}
		data, err := group.Schema("application/json")
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := writeKinds(folder, data); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// schemasOfDefinitions are the names of the files of our kinds and of those of others.
func schemasOfDefinitions(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, folder := range definitions {
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no definitions in %s: %v", folder, err)
		}
		for _, file := range files {
			var d apiextensionsv1.CustomResourceDefinition
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal(data, &d); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			for _, v := range d.Spec.Versions {
				out = append(out, schemaFile(d.Spec.Group, v.Name, d.Spec.Names.Kind))
			}
		}
	}
	return out
}

func schemaFile(group, version, kind string) string {
	return fmt.Sprintf("%s_%s_%s.json", group, version, strings.ToLower(kind))
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
		closeSchema(schema)
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
		file := schemaFile(group.(string), kind["version"].(string), kind["kind"].(string))
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

// closeSchema lets a schema have no fields but those that it names, at any
// depth: those of definitions are in one piece.
func closeSchema(schema map[string]any) {
	properties, _ := schema["properties"].(map[string]any)
	for _, p := range properties {
		if p, ok := p.(map[string]any); ok {
			closeSchema(p)
		}
	}
	for _, inner := range []string{"items", "additionalProperties"} {
		if s, ok := schema[inner].(map[string]any); ok {
			closeSchema(s)
		}
	}
	if properties != nil && schema["additionalProperties"] == nil && schema["x-kubernetes-preserve-unknown-fields"] != true {
		schema["additionalProperties"] = false
	}
}

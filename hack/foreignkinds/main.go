// Command foreignkinds writes the definitions of kinds that others own and that
// the charts, config and the examples use: for tests, which have an API server
// judge these objects by them.
//
//	foreignkinds FOLDER
//
// The sources are Go modules, all under the Apache License 2.0. Left out is what
// judges no object of ours: descriptions, and what the owner's programs write
// into an object (status, operation).
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// source is a module and its definitions.
type source struct {
	module, version string
	files           []string
}

var sources = []source{
	{"github.com/prometheus-operator/prometheus-operator", "v0.85.0", []string{
		"example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
		"example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
		"example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
	}},
	{"github.com/fluxcd/source-controller", "v1.9.6", []string{"config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml"}},
	{"github.com/fluxcd/kustomize-controller", "v1.9.6", []string{"config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml"}},
	{"github.com/argoproj/argo-cd/v3", "v3.5.7", []string{"manifests/crds/application-crd.yaml"}},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: foreignkinds FOLDER")
		os.Exit(2)
	}
	for _, s := range sources {
		if err := s.write(os.Args[1]); err != nil {
			fmt.Fprintf(os.Stderr, "error: %s@%s: %v\n", s.module, s.version, err)
			os.Exit(1)
		}
	}
}

func (s source) write(folder string) error {
	module, err := s.download()
	if err != nil {
		return err
	}
	for _, name := range s.files {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return err
		}
		out, err := reduce(data)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		head := fmt.Sprintf("# %s of %s@%s (Apache-2.0), without descriptions, status and operation.\n# Written by `make foreign-kinds`.\n", name, s.module, s.version)
		if err := os.WriteFile(filepath.Join(folder, path.Base(name)), append([]byte(head), out...), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// download returns the folder of the module, whose content Go has verified.
func (s source) download() (string, error) {
	var errs bytes.Buffer
	cmd := exec.Command("go", "mod", "download", "-json", s.module+"@"+s.version)
	cmd.Dir = os.TempDir() // outside of this module, whose requirements it does not touch
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var answer struct{ Dir, Error string }
	if broken := json.Unmarshal(out, &answer); broken != nil || answer.Dir == "" {
		return "", fmt.Errorf("go mod download: %v: %s%s", err, answer.Error, errs.String())
	}
	return answer.Dir, nil
}

// reduce leaves of a definition what judges manifests.
func reduce(data []byte) ([]byte, error) {
	var definition map[string]any
	if err := yaml.Unmarshal(data, &definition); err != nil {
		return nil, err
	}
	spec, _ := definition["spec"].(map[string]any)
	versions, _ := spec["versions"].([]any)
	if len(versions) == 0 {
		return nil, fmt.Errorf("is no definition of a kind")
	}
	for _, v := range versions {
		version, _ := v.(map[string]any)
		schema, _ := version["schema"].(map[string]any)
		whole, _ := schema["openAPIV3Schema"].(map[string]any)
		properties, _ := whole["properties"].(map[string]any)
		if properties["spec"] == nil {
			return nil, fmt.Errorf("version %v has no schema of spec", version["name"])
		}
		delete(properties, "status")
		delete(properties, "operation")
	}
	return yaml.Marshal(withoutDescriptions(definition))
}

// withoutDescriptions keeps a property of that name, whose value is a schema.
func withoutDescriptions(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if _, text := v["description"].(string); text {
			delete(v, "description")
		}
		for k, e := range v {
			v[k] = withoutDescriptions(e)
		}
	case []any:
		for i, e := range v {
			v[i] = withoutDescriptions(e)
		}
	}
	return v
}

// Command apireference writes the page that lists every field of our kinds,
// from their custom resource definitions, which controller-gen makes of the Go
// types and their comments.
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const head = `# Reference

Generated from the Go types by ` + "`make generate`" + `. Sizes are quantities such as 10Gi; what is not required may be left out.
`

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: apireference PAGE DEFINITION...")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "apireference:", err)
		os.Exit(1)
	}
}

func write(page string, files []string) error {
	var out bytes.Buffer
	out.WriteString(head)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		crd := apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(data, &crd); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, v := range crd.Spec.Versions {
			kind(&out, crd.Spec.Names.Kind, crd.Spec.Group+"/"+v.Name, v.Schema.OpenAPIV3Schema)
		}
	}
	return os.WriteFile(page, out.Bytes(), 0o644)
}

func kind(out *bytes.Buffer, name, version string, schema *apiextensionsv1.JSONSchemaProps) {
	fmt.Fprintf(out, "\n## %s\n\n`%s`. %s\n", name, version, sentence(schema.Description))
	rules(out, schema.XValidations)
	for _, part := range []string{"spec", "status"} {
		p := schema.Properties[part]
		fmt.Fprintf(out, "\n### %s.%s\n\n", name, part)
		if p.Description != "" {
			fmt.Fprintf(out, "%s\n\n", sentence(p.Description))
		}
		fmt.Fprintf(out, "| field | type | |\n| --- | --- | --- |\n")
		fields(out, "", &p)
	}
}

// fields writes a row for each field below a schema, depth first. What belongs
// to Kubernetes is not taken apart: its documentation has it.
func fields(out *bytes.Buffer, path string, schema *apiextensionsv1.JSONSchemaProps) {
	for _, name := range sorted(schema.Properties) {
		p := schema.Properties[name]
		required := ""
		if slices.Contains(schema.Required, name) {
			required = ", required"
		}
		fmt.Fprintf(out, "| `%s` | %s%s | %s |\n", path+name, typeOf(&p), required, cell(&p))
		if foreign(path + name) {
			continue
		}
		switch {
		case p.Items != nil && p.Items.Schema != nil:
			fields(out, path+name+"[].", p.Items.Schema)
		case len(p.Properties) > 0:
			fields(out, path+name+".", &p)
		}
	}
}

// foreign says that a field is of a type of Kubernetes.
func foreign(path string) bool {
	for _, end := range []string{"conditions", "affinity", "tolerations", "topologySpreadConstraints", "imagePullSecrets", "seLinuxOptions"} {
		if path == end || strings.HasSuffix(path, "."+end) {
			return true
		}
	}
	return false
}

func typeOf(p *apiextensionsv1.JSONSchemaProps) string {
	switch {
	case p.XIntOrString:
		return "quantity"
	case p.Format == "date-time":
		return "time"
	case p.Items != nil && p.Items.Schema != nil:
		return "list of " + typeOf(p.Items.Schema)
	case p.Type == "object" && p.AdditionalProperties != nil:
		return "map"
	}
	return p.Type
}

// cell is the description, and what is allowed.
func cell(p *apiextensionsv1.JSONSchemaProps) string {
	parts := []string{sentence(p.Description)}
	if len(p.Enum) > 0 {
		var values []string
		for _, v := range p.Enum {
			values = append(values, "`"+strings.Trim(string(v.Raw), `"`)+"`")
		}
		parts = append(parts, "One of "+strings.Join(values, ", ")+".")
	}
	if p.Default != nil {
		parts = append(parts, "Default: `"+strings.Trim(string(p.Default.Raw), `"`)+"`.")
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

// rules lists the fixed messages of rules about several fields; the others are
// told with their values when they are broken.
func rules(out *bytes.Buffer, all apiextensionsv1.ValidationRules) {
	for _, r := range all {
		if r.Message != "" {
			fmt.Fprintf(out, "\n- %s\n", r.Message)
		}
	}
}

// sentence puts a description into one line of a table.
func sentence(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// sorted has the required fields and those without more below them first, by name.
func sorted(properties map[string]apiextensionsv1.JSONSchemaProps) []string {
	var names []string
	for name := range properties {
		names = append(names, name)
	}
	deep := func(name string) int {
		p := properties[name]
		if len(p.Properties) > 0 || p.Items != nil {
			return 1
		}
		return 0
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(deep(a)-deep(b), strings.Compare(a, b)) })
	return names
}

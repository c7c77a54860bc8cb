package install

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// block is what stands between two fences of a page.
type block struct{ page, text string }

// documents are the pages for users, by name.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	out := map[string]string{"README.md": readFile(t, "README.md")}
	for _, f := range files {
		out["docs/"+filepath.Base(f)] = readFile(t, "docs", filepath.Base(f))
	}
	return out
}

var fence = regexp.MustCompile("(?ms)^```([a-z ]*)\n(.*?)^```$")

// blocks are those that are marked with a word: yaml (manifests), yaml values
// (of the chart metastore) or sh.
func blocks(t *testing.T, mark string) []block {
	t.Helper()
	var out []block
	for page, content := range documents(t) {
		for _, m := range fence.FindAllStringSubmatch(content, -1) {
			if m[1] == mark {
				out = append(out, block{page, m[2]})
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("no page has a block of %s", mark)
	}
	return out
}

// TestManifestsOfThePagesApply has an API server judge every manifest.
func TestManifestsOfThePagesApply(t *testing.T) {
	c := startAPI(t)
	all := blocks(t, "yaml")
	for _, b := range blocks(t, "sh") {
		if _, after, ok := strings.Cut(b.text, "<<EOF\n"); ok {
			here, _, _ := strings.Cut(after, "\nEOF\n")
			all = append(all, block{b.page, here})
		}
	}
	for _, b := range all {
		for key, o := range parse(t, b.text) {
			if err := try(t.Context(), c, o); err != nil {
				t.Errorf("%s: %s: %v", b.page, key, err)
			}
		}
	}
}

func TestValuesOfThePagesRender(t *testing.T) {
	for _, b := range blocks(t, "yaml values") {
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		template(t, "metastore", "--values", file)
	}
}

// TestCommandsOfThePagesExist: targets of make, commands and flags of the
// server, files of the repository.
func TestCommandsOfThePagesExist(t *testing.T) {
	makefile := readFile(t, "Makefile")
	server := program(t, "./server/cmd/metastore")
	for _, b := range blocks(t, "sh") {
		script, _, _ := strings.Cut(b.text, "<<EOF\n")
		for line := range strings.Lines(script) {
			words := strings.Fields(line)
			switch strings.TrimPrefix(words[0], "bin/") {
			case "make":
				if !strings.Contains(makefile, "\n"+words[1]+":") {
					t.Errorf("%s: there is no target of %q", b.page, line)
				}
			case "metastore":
				server.accepts(t, b.page, words[1:])
			case "kubectl", "helm", "etcdctl":
				filesExist(t, b.page, words)
			default:
				t.Errorf("%s: unknown command %q", b.page, line)
			}
		}
	}
}

// filesExist looks at the arguments that are folders of the repository.
func filesExist(t *testing.T, page string, words []string) {
	t.Helper()
	for _, w := range words {
		if !strings.HasPrefix(w, "config/") && !strings.HasPrefix(w, "charts/") {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, w)); err != nil {
			t.Errorf("%s: %v", page, err)
		}
	}
}

var (
	span        = regexp.MustCompile("`([^`\n]+)`")
	specField   = regexp.MustCompile(`^(spec|status)(\.[a-zA-Z]+)+`)
	ourFlag     = regexp.MustCompile(`^--[a-z][a-z0-9-]+`)
	makeTarget  = regexp.MustCompile(`^make ([a-z0-9-]+)`)
	link        = regexp.MustCompile(`\]\(([^)#:]+)?(#[^)]+)?\)`)
	headingLine = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// TestNamesOfThePagesExist looks at what stands in code spans: fields, flags,
// targets of make.
func TestNamesOfThePagesExist(t *testing.T) {
	makefile := readFile(t, "Makefile")
	flags := program(t, "./server/cmd/metastore").help(t) + program(t, "./operator/cmd/operator").help(t) +
		"--take-ownership --force-conflicts --target" // helm's and docker's
	schemas := schemasOfKinds(t)
	for page, content := range documents(t) {
		for _, m := range span.FindAllStringSubmatch(fence.ReplaceAllString(content, ""), -1) {
			field, flag, target := specField.FindString(m[1]), ourFlag.FindString(m[1]), makeTarget.FindStringSubmatch(m[1])
			if field != "" && !slices.ContainsFunc(schemas, func(s map[string]any) bool { return has(s, strings.Split(field, ".")) }) {
				t.Errorf("%s: no kind has the field %s", page, field)
			}
			if flag != "" && !strings.Contains(flags, flag) {
				t.Errorf("%s: there is no flag %s", page, flag)
			}
			if target != nil && !strings.Contains(makefile, "\n"+target[1]+":") {
				t.Errorf("%s: there is no target %s", page, m[1])
			}
		}
	}
}

func schemasOfKinds(t *testing.T) []map[string]any {
	t.Helper()
	var out []map[string]any
	for _, crd := range kustomize(t, "config/crd").of("CustomResourceDefinition") {
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		schema, _, _ := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema")
		out = append(out, schema)
	}
	return out
}

// has says that a schema has the field at a path.
func has(schema map[string]any, path []string) bool {
	for _, name := range path {
		if items, ok := schema["items"].(map[string]any); ok {
			schema = items
		}
		properties, _ := schema["properties"].(map[string]any)
		next, ok := properties[name].(map[string]any)
		if !ok {
			return false
		}
		schema = next
	}
	return true
}

func TestLinksOfThePagesLead(t *testing.T) {
	all := documents(t)
	for page, content := range all {
		for _, m := range link.FindAllStringSubmatch(content, -1) {
			file, anchor := m[1], strings.TrimPrefix(m[2], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
				if _, err := os.Stat(filepath.Join(root, target)); err != nil {
					t.Errorf("%s: %v", page, err)
					continue
				}
			}
			if anchor != "" && !slices.Contains(anchors(all[target]), anchor) {
				t.Errorf("%s: %s has no section %s", page, target, anchor)
			}
		}
	}
}

// anchors are those that GitHub gives the headings of a page.
func anchors(content string) []string {
	var out []string
	for _, m := range headingLine.FindAllStringSubmatch(content, -1) {
		out = append(out, strings.ReplaceAll(strings.ToLower(m[1]), " ", "-"))
	}
	return out
}

func TestEveryAlertHasItsRunbook(t *testing.T) {
	sections := anchors(documents(t)["docs/monitoring.md"])
	for _, r := range alerts(t) {
		want := "https://metastore.io/docs/monitoring.md#" + strings.ToLower(r.Alert)
		if r.Annotations["runbook_url"] != want || r.Annotations["summary"] == "" {
			t.Errorf("alert %s: runbook %q, summary %q; want the runbook %s", r.Alert, r.Annotations["runbook_url"], r.Annotations["summary"], want)
		}
		if !slices.Contains(sections, strings.ToLower(r.Alert)) {
			t.Errorf("docs/monitoring.md has no section about %s", r.Alert)
		}
	}
	for _, section := range sections {
		known := slices.ContainsFunc(alerts(t), func(r rule) bool { return strings.ToLower(r.Alert) == section })
		if strings.HasPrefix(section, "metastore") && !known {
			t.Errorf("docs/monitoring.md has a section about %s, which is no alert", section)
		}
	}
}

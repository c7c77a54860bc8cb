package install

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/yaml"

	_ "metastore.io/metastore/operator/controller" // registers the operator's metrics
)

// rule is an alert.
type rule struct {
	Alert, Expr string
	Annotations map[string]string
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Spec struct{ Groups []struct{ Rules []rule } }
	}
	if err := yaml.Unmarshal([]byte(readFile(t, "config", "monitoring", "prometheus_rule.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	var out []rule
	for _, g := range file.Spec.Groups {
		out = append(out, g.Rules...)
	}
	if len(out) == 0 {
		t.Fatal("there are no alerts")
	}
	return out
}

// expressions are those of the alerts and of the dashboard, by where they are.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, r := range alerts(t) {
		out["alert "+r.Alert] = r.Expr
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, "config", "monitoring", "dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for i, target := range p.Targets {
			out[fmt.Sprintf("panel %s, target %d", p.Title, i)] = target.Expr
		}
	}
	return out
}

// TestMetricsOfAlertsAndDashboardExist scrapes real members of each engine and
// asks the operator's registry. What is neither a metric nor PromQL fails it.
func TestMetricsOfAlertsAndDashboardExist(t *testing.T) {
	operator := operatorMetrics()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			there := append(scrapeMembers(t, engine), operator...)
			there = append(there, "up") // Prometheus' own
			for where, e := range expressions(t) {
				for _, name := range metricsIn(e) {
					if !slices.Contains(there, name) {
						t.Errorf("%s: %s is no metric of a member or of the operator", where, name)
					}
				}
			}
		})
	}
}

// TestMetricsOfThePagesExist: those of the operator that the pages name.
func TestMetricsOfThePagesExist(t *testing.T) {
	operator := operatorMetrics()
	for page, content := range documents(t) {
		for _, name := range regexp.MustCompile(`metastore_operator_[a-z_]+`).FindAllString(content, -1) {
			if !slices.Contains(operator, name) {
				t.Errorf("%s: the operator has no metric %s", page, name)
			}
		}
	}
}

// TestConditionsOfAlertsExist: the values of the label condition are types of conditions.
func TestConditionsOfAlertsExist(t *testing.T) {
	types, err := filepath.Glob(filepath.Join(root, "api", "v1alpha1", "*_types.go"))
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, file := range types {
		code.WriteString(readFile(t, "api", "v1alpha1", filepath.Base(file)))
	}
	value := regexp.MustCompile(`condition!?=~?"([^"]+)"`)
	found := false
	for where, e := range expressions(t) {
		for _, m := range value.FindAllStringSubmatch(e, -1) {
			for _, name := range strings.Split(m[1], "|") {
				found = true
				if !regexp.MustCompile(`Condition\w+\s*=\s*"` + name + `"`).MatchString(code.String()) {
					t.Errorf("%s: there is no condition %s", where, name)
				}
			}
		}
	}
	if !found {
		t.Error("no expression names a condition: this test looks at the wrong thing")
	}
}

var (
	matchers = regexp.MustCompile(`\{[^}]*\}`)
	grouping = regexp.MustCompile(`\b(by|without|on|ignoring)\s*\([^)]*\)`)
	ranges   = regexp.MustCompile(`\[[^\]]*\]`)
	names    = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*`)
	ofPromQL = []string{"sum", "max", "min", "count", "rate", "increase", "histogram_quantile", "time", "absent", "and", "or", "unless"}
)

// metricsIn are the names in an expression that are not PromQL's.
func metricsIn(expression string) []string {
	for _, r := range []*regexp.Regexp{matchers, grouping, ranges} {
		expression = r.ReplaceAllString(expression, " ")
	}
	return slices.DeleteFunc(names.FindAllString(expression, -1), func(w string) bool { return slices.Contains(ofPromQL, w) })
}

func TestMetricsInAnExpression(t *testing.T) {
	got := metricsIn(`histogram_quantile(0.99, sum by (pod, le) (rate(a_seconds_bucket{job="x", y!~"b|c"}[5m]))) > 0.5 and time() - b_total < 3`)
	if !slices.Equal(got, []string{"a_seconds_bucket", "b_total"}) {
		t.Errorf("got %v", got)
	}
}

// operatorMetrics are the names that the operator has registered, also those
// without a sample yet.
func operatorMetrics() []string {
	descriptions := make(chan *prometheus.Desc)
	go func() {
		metrics.Registry.(prometheus.Collector).Describe(descriptions)
		close(descriptions)
	}()
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	var out []string
	for d := range descriptions {
		n := name.FindStringSubmatch(d.String())[1]
		out = append(out, n, n+"_bucket", n+"_count", n+"_sum")
	}
	return out
}

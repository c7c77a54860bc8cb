package resources

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"metastore.io/metastore/api/v1alpha1"
)

var seed = []MemberConfig{{Ordinal: 0, New: true, Peers: []int{0}}}

// planned are the fields that only the planner reads (a quota that is left out
// follows autoGrow as well), and TLS: its modes are handed in, TestGoldenSecure,
// and its sources are the controller's.
var planned = []string{".replicas", ".storage.autoGrow", ".tls", ".auth", ".repair", ".update", ".paused", ".hibernated", ".deletionPolicy", ".deletionBackup", ".bootstrap"}

// TestEveryFieldIsServed changes each field of the full spec by itself and asks
// for a change in the objects: a field without one would be a promise unkept.
func TestEveryFieldIsServed(t *testing.T) {
	base := objects(t, builder(t, full()), 5, seed)
	var walk func(path string, at func(*v1alpha1.MetaStoreCluster) reflect.Value)
	walk = func(path string, at func(*v1alpha1.MetaStoreCluster) reflect.Value) {
		v := at(full())
		if slices.Contains(planned, path) {
			return
		}
		if v.Kind() == reflect.Pointer && !v.IsNil() {
			walk(path, func(c *v1alpha1.MetaStoreCluster) reflect.Value { return at(c).Elem() })
			return
		}
		if v.Kind() == reflect.Struct && strings.HasPrefix(v.Type().PkgPath(), "metastore.io/") {
			for i := range v.NumField() {
				walk(path+"."+jsonName(v.Type().Field(i)), func(c *v1alpha1.MetaStoreCluster) reflect.Value { return at(c).Field(i) })
			}
			return
		}
		t.Run(strings.TrimPrefix(path, "."), func(t *testing.T) {
			c := full()
			change(t, at(c))
			if bytes.Equal(base, objects(t, builder(t, c), 5, seed)) {
				t.Error("changing the field changes no object")
			}
		})
	}
	walk("", func(c *v1alpha1.MetaStoreCluster) reflect.Value { return reflect.ValueOf(&c.Spec).Elem() })
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// change gives the value another one of its kind.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	if q, ok := v.Addr().Interface().(*resource.Quantity); ok {
		q.Add(resource.MustParse("1Mi"))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int32, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Map, reflect.Slice, reflect.Struct:
		if v.IsZero() {
			t.Fatal("full() does not set the field")
		}
		v.SetZero()
	default:
		t.Fatalf("full() does not set the field, or it has an unknown kind %s", v.Kind())
	}
}

func TestBuildersShareNothingWithTheCluster(t *testing.T) {
	c := full()
	set := builder(t, c).StatefulSet(3)
	set.Spec.Template.Spec.NodeSelector["disk"] = "changed"
	set.Spec.Template.Spec.Tolerations[0].Key = "changed"
	*set.Spec.Template.Spec.SecurityContext.RunAsUser = 7
	if !reflect.DeepEqual(c, full()) {
		t.Error("changing a built object changed the cluster")
	}
}

func TestOperatorsLabelsStay(t *testing.T) {
	c := one()
	c.Spec.PodTemplate = &v1alpha1.PodTemplateOverlay{Metadata: &v1alpha1.PodMetadata{
		Labels: map[string]string{labelInstance: "another", "team": "x"}, Annotations: map[string]string{AnnotationConfigHash: "0"},
	}}
	pod := builder(t, c).StatefulSet(1).Spec.Template
	for k, v := range SelectorLabels("one") {
		if pod.Labels[k] != v {
			t.Errorf("label %s of the pod is %q, want %q: the set would not select its pods", k, pod.Labels[k], v)
		}
	}
	if pod.Labels["team"] != "x" || pod.Annotations[AnnotationConfigHash] == "0" {
		t.Errorf("labels %v, annotations %v", pod.Labels, pod.Annotations)
	}
}

// TestOnlySettingsRestartMembers pins what the hash in the pod template covers.
func TestOnlySettingsRestartMembers(t *testing.T) {
	before := builder(t, one()).StatefulSet(1).Spec.Template
	grown := builder(t, one()).StatefulSet(3).Spec.Template
	if !reflect.DeepEqual(before, grown) {
		t.Error("another number of members changes the pod template")
	}
	c := one()
	c.Spec.Server = &v1alpha1.ServerSpec{HeartbeatIntervalMillis: ptr[int32](150)}
	if changed := builder(t, c).StatefulSet(1).Spec.Template; changed.Annotations[AnnotationConfigHash] == before.Annotations[AnnotationConfigHash] {
		t.Error("a setting that is read at start does not change the hash")
	}
}

func TestMemberSettings(t *testing.T) {
	b := builder(t, memory())
	got := b.Members([]MemberConfig{{Ordinal: 0, New: true, Peers: []int{0}}, {Ordinal: 2, Peers: []int{0, 2}}}).Data
	for file, fragments := range map[string][]string{
		"memory-0.yaml": {
			"\ninitial-cluster: memory-0=http://memory-0.memory-peers.apps.svc:2380\n", "initial-cluster-state: new\n", "name: memory-0\n",
			"initial-cluster-token: 5d0a7c1e-0000-4000-8000-000000000001\n", "storage-engine: memory\n",
		},
		"memory-2.yaml": {
			"\ninitial-cluster: memory-0=http://memory-0.memory-peers.apps.svc:2380,memory-2=http://memory-2.memory-peers.apps.svc:2380\n",
			"initial-cluster-state: existing\n", "advertise-client-urls: http://memory-2.memory-peers.apps.svc:2379\n",
		},
	} {
		for _, f := range fragments {
			if !strings.Contains(got[file], f) {
				t.Errorf("%s lacks %q:\n%s", file, f, got[file])
			}
		}
		if strings.Contains(got[file], "rocksdb") {
			t.Errorf("%s has settings of an engine that does not run", file)
		}
	}
	if len(got) != 2 {
		t.Errorf("the ConfigMap has %d files, want 2", len(got))
	}
}

func TestSafePod(t *testing.T) {
	for _, c := range []*v1alpha1.MetaStoreCluster{one(), full()} {
		pod := builder(t, c).StatefulSet(1).Spec.Template.Spec
		p, s := pod.SecurityContext, pod.Containers[0].SecurityContext
		switch {
		case len(pod.Containers) != 1, *p.RunAsUser == 0, !*p.RunAsNonRoot, p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault,
			!*s.ReadOnlyRootFilesystem, *s.AllowPrivilegeEscalation, !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}),
			*pod.AutomountServiceAccountToken, *pod.EnableServiceLinks:
			t.Errorf("the pod of %s is not as safe as promised: %+v %+v", c.Name, p, s)
		}
	}
}

func TestSpreadingCanBeTurnedOff(t *testing.T) {
	c := one()
	c.Spec.PodTemplate = &v1alpha1.PodTemplateOverlay{Spec: &v1alpha1.PodSpecOverlay{TopologySpreadConstraints: &[]corev1.TopologySpreadConstraint{}}}
	if got := builder(t, c).StatefulSet(1).Spec.Template.Spec.TopologySpreadConstraints; len(got) != 0 {
		t.Errorf("constraints are %v, want none", got)
	}
}

func TestBudgetKeepsTheQuorum(t *testing.T) {
	for voters, want := range map[int]int32{0: 1, 1: 1, 2: 0, 3: 1, 4: 1, 5: 2, 6: 2, 7: 3} {
		if got := builder(t, one()).PodDisruptionBudget(voters).Spec.MaxUnavailable.IntVal; got != want {
			t.Errorf("with %d voters the budget is %d, want %d", voters, got, want)
		}
		if quorum := voters/2 + 1; voters > 1 && voters-int(want) < quorum {
			t.Errorf("with %d voters a budget of %d loses the quorum", voters, want)
		}
	}
}

func TestImage(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for _, tc := range []struct{ image, version, fallback, want string }{
		{"", "", "metastore.io/metastore:0.1.0", "metastore.io/metastore:0.1.0"},
		{"", "0.2.0", "metastore.io/metastore:0.1.0", "metastore.io/metastore:0.2.0"},
		{"", "", "r:5000/m" + digest, "r:5000/m" + digest},
		{"", "0.2.0", "r:5000/m:0.1.0" + digest, "r:5000/m:0.2.0"},
		{"r:5000/m", "", "metastore.io/metastore:0.1.0", "r:5000/m:0.1.0"},
		{"r:5000/m", "0.2.0", "metastore.io/metastore:0.1.0", "r:5000/m:0.2.0"},
		{"r/m", "", "metastore.io/metastore" + digest, "r/m"},
		{"r/m:x", "", "metastore.io/metastore:0.1.0", "r/m:x"},
		{"r/m" + digest, "", "metastore.io/metastore:0.1.0", "r/m" + digest},
	} {
		if got := Image(&v1alpha1.MetaStoreClusterSpec{Image: tc.image, Version: tc.version}, tc.fallback); got != tc.want {
			t.Errorf("image %q, version %q, default %q: got %q, want %q", tc.image, tc.version, tc.fallback, got, tc.want)
		}
	}
}

func TestAtLeast(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for _, tc := range []struct{ image, running, want string }{
		{"r:5000/m:0.1.0", "0.1.0", "r:5000/m:0.1.0"},
		{"r:5000/m:0.1.0", "0.2.1", "r:5000/m:0.2.1"},
		{"r/m:v0.1.0" + digest, "0.2.0", "r/m:v0.2.0"},
		{"r/m:0.10.0", "0.9.0", "r/m:0.10.0"},
		{"r/m:0.2.0-rc.1", "0.2.0", "r/m:0.2.0"},
		{"r/m:0.1.0", "", "r/m:0.1.0"},
		{"r/m:latest", "0.2.0", "r/m:latest"},
		{"r/m" + digest, "0.2.0", "r/m" + digest},
	} {
		if got := AtLeast(tc.image, tc.running); got != tc.want {
			t.Errorf("image %q, running %q: got %q, want %q", tc.image, tc.running, got, tc.want)
		}
	}
}

func TestOrdinal(t *testing.T) {
	for n := range 12 {
		if got, ok := Ordinal("a-b", PodName("a-b", n)); !ok || got != n {
			t.Errorf("ordinal of %s is %d, %v", PodName("a-b", n), got, ok)
		}
	}
	for _, pod := range []string{"", "a-b", "a-b-", "a-b-x", "a-b--1", "a-b-01", "a-b-+1", "c-1", "a-b-1-0"} {
		if n, ok := Ordinal("a-b", pod); ok {
			t.Errorf("pod %q is taken for ordinal %d", pod, n)
		}
	}
}

func TestForceIsTheSurvivorsAlone(t *testing.T) {
	settings := builder(t, one()).Members([]MemberConfig{{Ordinal: 2, Peers: []int{2}, Force: "word"}}).Data["one-2.yaml"]
	for _, line := range []string{"force-new-cluster-once: word\n", "initial-cluster: one-2=http://one-2.", "initial-cluster-state: existing\n"} {
		if !strings.Contains(settings, line) {
			t.Errorf("the settings have no %q:\n%s", line, settings)
		}
	}
	if other := builder(t, one()).Members([]MemberConfig{{Ordinal: 2, Peers: []int{2}}}).Data["one-2.yaml"]; strings.Contains(other, "force") {
		t.Errorf("nothing is forced:\n%s", other)
	}
}

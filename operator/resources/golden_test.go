package resources

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/tuning"
)

var update = flag.Bool("update", false, "write the golden files anew")

func ptr[T any](v T) *T { return &v }

func size(s string) *resource.Quantity { return ptr(resource.MustParse(s)) }

func named(name string, spec v1alpha1.MetaStoreClusterSpec) *v1alpha1.MetaStoreCluster {
	return &v1alpha1.MetaStoreCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "apps", UID: "5d0a7c1e-0000-4000-8000-000000000001"},
		Spec:       spec,
	}
}

func one() *v1alpha1.MetaStoreCluster {
	return named("one", v1alpha1.MetaStoreClusterSpec{
		Replicas: 1, Engine: v1alpha1.EngineRocksDB, Storage: v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")},
	})
}

func memory() *v1alpha1.MetaStoreCluster {
	return named("memory", v1alpha1.MetaStoreClusterSpec{
		Replicas: 3, Engine: v1alpha1.EngineMemory, Storage: v1alpha1.StorageSpec{Size: resource.MustParse("4Gi")},
		Resources: &v1alpha1.MemberResources{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}},
	})
}

// full sets every field of the spec.
func full() *v1alpha1.MetaStoreCluster {
	return named("full", v1alpha1.MetaStoreClusterSpec{
		Replicas: 5, Engine: v1alpha1.EngineRocksDB, Image: "mirror.example:5000/metastore", Version: "1.2.3",
		ImagePullPolicy: corev1.PullIfNotPresent,
		Storage:         v1alpha1.StorageSpec{Size: resource.MustParse("20Gi"), StorageClassName: ptr("fast")},
		Resources: &v1alpha1.MemberResources{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("1Gi")},
			Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("2Gi")},
		},
		RocksDB: &v1alpha1.RocksDBSpec{
			Profile: v1alpha1.RocksDBCustom, BlockCacheSize: size("600Mi"), WriteBufferSize: size("32Mi"),
			MaxWriteBufferNumber: ptr[int32](3), MaxBackgroundJobs: ptr[int32](4), BloomBitsPerKey: ptr[int32](12),
			Compression: v1alpha1.CompressionZSTD, MaxOpenFiles: ptr[int32](512), Level0FileNumCompactionTrigger: ptr[int32](5),
			Level0SlowdownWritesTrigger: ptr[int32](25), Level0StopWritesTrigger: ptr[int32](45), BytesPerSync: size("2Mi"),
		},
		Server: &v1alpha1.ServerSpec{
			QuotaBackendBytes: size("8Gi"), SnapshotCount: ptr[int64](20000),
			AutoCompaction:          &v1alpha1.AutoCompaction{Mode: v1alpha1.AutoCompactionRevision, Retention: "10000"},
			HeartbeatIntervalMillis: ptr[int32](200), ElectionTimeoutMillis: ptr[int32](2000),
		},
		PodTemplate: &v1alpha1.PodTemplateOverlay{
			Metadata: &v1alpha1.PodMetadata{Labels: map[string]string{"team": "platform"}, Annotations: map[string]string{"note": "hello"}},
			Spec: &v1alpha1.PodSpecOverlay{
				NodeSelector: map[string]string{"disk": "ssd"},
				Tolerations:  []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}},
				Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
					NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "arch", Operator: corev1.NodeSelectorOpExists}}}},
				}}},
				TopologySpreadConstraints: &[]corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "rack", WhenUnsatisfiable: corev1.DoNotSchedule}},
				PriorityClassName:         "high", ServiceAccountName: "store", ImagePullSecrets: []corev1.LocalObjectReference{{Name: "mirror"}},
				TerminationGracePeriodSeconds: ptr[int64](60),
				SecurityContext: &v1alpha1.PodSecurityOverlay{
					RunAsUser: ptr[int64](1001), RunAsGroup: ptr[int64](1002), FSGroup: ptr[int64](1003),
					FSGroupChangePolicy: ptr(corev1.FSGroupChangeAlways), SELinuxOptions: &corev1.SELinuxOptions{Level: "s0:c1,c2"},
				},
			},
			Probes: &v1alpha1.ProbesOverlay{
				Startup:   &v1alpha1.ProbeTiming{PeriodSeconds: ptr[int32](2), TimeoutSeconds: ptr[int32](6), FailureThreshold: ptr[int32](7200)},
				Liveness:  &v1alpha1.ProbeTiming{PeriodSeconds: ptr[int32](30), TimeoutSeconds: ptr[int32](10), FailureThreshold: ptr[int32](8)},
				Readiness: &v1alpha1.ProbeTiming{PeriodSeconds: ptr[int32](3), TimeoutSeconds: ptr[int32](4), FailureThreshold: ptr[int32](5)},
			},
		},
	})
}

// secure has TLS at both ends, and clients that show certificates.
func secure() *v1alpha1.MetaStoreCluster {
	c := memory()
	c.Name = "secure"
	source := &v1alpha1.TLSSource{SelfSigned: &v1alpha1.SelfSigned{}}
	c.Spec.TLS = &v1alpha1.TLSSpec{
		Client: &v1alpha1.ClientTLS{Mode: v1alpha1.TLSRequired, Source: source, ClientCertificates: v1alpha1.ClientCertificatesRequired},
		Peer:   &v1alpha1.PeerTLS{Mode: v1alpha1.TLSRequired, Source: source},
	}
	return c
}

// TestGoldenSecure has what TLS adds: pods and settings of a cluster that has it,
// and settings of one on its way to it.
func TestGoldenSecure(t *testing.T) {
	required := v1alpha1.TLSModes{Client: v1alpha1.TLSRequired, Peer: v1alpha1.TLSRequired}
	turning := v1alpha1.TLSModes{Client: v1alpha1.TLSPermissive, Peer: v1alpha1.TLSPermissive}
	b := builder(t, secure())
	members := []MemberConfig{{Ordinal: 1, Peers: []int{0, 1}, Secure: []int{0, 1}}}
	midway := []MemberConfig{{Ordinal: 0, Peers: []int{0, 1}, Secure: []int{1}}}
	golden(t, "secure.yaml",
		b.WithModes(required).StatefulSet(2), b.WithModes(required).Members(members),
		b.WithModes(turning).Members(midway, v1alpha1.TLSModes{}, turning))
}

func TestModesAreReadBack(t *testing.T) {
	for _, client := range []v1alpha1.TLSMode{v1alpha1.TLSDisabled, v1alpha1.TLSPermissive, v1alpha1.TLSRequired} {
		for _, peer := range []v1alpha1.TLSMode{v1alpha1.TLSDisabled, v1alpha1.TLSPermissive, v1alpha1.TLSRequired} {
			modes := v1alpha1.TLSModes{Client: client, Peer: peer}
			if got := Modes(builder(t, one()).WithModes(modes).StatefulSet(1).Spec.Template.Annotations); got != modes {
				t.Errorf("%v reads back as %v", modes, got)
			}
		}
	}
}

// builder derives the tuning as the controller does.
func builder(t *testing.T, c *v1alpha1.MetaStoreCluster) Builder {
	t.Helper()
	derived, err := tuning.Derive(&c.Spec)
	if err != nil {
		t.Fatalf("derive the tuning of %s: %v", c.Name, err)
	}
	return For(c, DefaultServerImage, derived)
}

// objects renders everything that the builder builds, as one YAML stream.
func objects(t *testing.T, b Builder, replicas int, members []MemberConfig) []byte {
	t.Helper()
	return stream(t, b.ClientService(), b.PeerService(), b.PodDisruptionBudget(replicas), b.Members(members), b.StatefulSet(replicas))
}

func stream(t *testing.T, all ...any) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, o := range all {
		doc, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		out.Write(doc)
	}
	return out.Bytes()
}

func TestGolden(t *testing.T) {
	for _, tc := range []struct {
		cluster  *v1alpha1.MetaStoreCluster
		replicas int
		members  []MemberConfig
	}{
		{one(), 1, []MemberConfig{{Ordinal: 0, New: true, Peers: []int{0}}}},
		{memory(), 2, []MemberConfig{{Ordinal: 0, Peers: []int{0, 1}}, {Ordinal: 1, Peers: []int{0, 1}}}},
		{full(), 5, []MemberConfig{{Ordinal: 4, Peers: []int{0, 1, 2, 3, 4}}}},
	} {
		t.Run(tc.cluster.Name, func(t *testing.T) {
			compare(t, tc.cluster.Name+".yaml", objects(t, builder(t, tc.cluster), tc.replicas, tc.members))
		})
	}
}

func golden(t *testing.T, name string, all ...any) {
	t.Helper()
	compare(t, name, stream(t, all...))
}

func compare(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the objects differ from %s; if that is right, go test ./operator/resources -update\n%s", file, got)
	}
}

package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"metastore.io/metastore/api/v1alpha1"
)

const (
	settingsDir = "/etc/metastore/members"
	volumeDir   = "/var/lib/metastore"
	// dataDir lies below the mount point, which may hold what a file system
	// puts there and whose mode is not the server's to change.
	dataDir = volumeDir + "/data"
)

// MemberConfig is what the planner decides about one member's start.
type MemberConfig struct {
	Ordinal int
	// New tells the member to begin a cluster; otherwise it joins the one that exists.
	New bool
	// Peers are the ordinals of the members to start with, itself included.
	Peers []int
	// Secure are those of them whose peer URL has TLS.
	Secure []int
	// Force makes the member forget all others, at the first start with this word.
	Force string
}

// memberSettings is a member's config file. The names are the server's flags.
type memberSettings struct {
	Name                     string `json:"name"`
	ListenClientURLs         string `json:"listen-client-urls"`
	AdvertiseClientURLs      string `json:"advertise-client-urls"`
	ListenPeerURLs           string `json:"listen-peer-urls"`
	InitialAdvertisePeerURLs string `json:"initial-advertise-peer-urls"`
	InitialCluster           string `json:"initial-cluster"`
	InitialClusterState      string `json:"initial-cluster-state"`
	InitialClusterToken      string `json:"initial-cluster-token,omitempty"`
	ForceNewClusterOnce      string `json:"force-new-cluster-once,omitempty"`
	sharedSettings
	tlsSettings
}

// sharedSettings are the settings that are the same for all members and that no
// change of the membership touches. Invariant: nothing is left out that a
// server reads at its start; AnnotationConfigHash covers these, but for a quota
// that follows the volume.
//
// A field that is added here has to be left out where the spec does not set it:
// otherwise a release of the operator would restart every member of every cluster.
type sharedSettings struct {
	DataDir                 string `json:"data-dir"`
	StorageEngine           string `json:"storage-engine"`
	QuotaBackendBytes       int64  `json:"quota-backend-bytes"`
	AutoCompactionMode      string `json:"auto-compaction-mode,omitempty"`
	AutoCompactionRetention string `json:"auto-compaction-retention,omitempty"`
	SnapshotCount           *int64 `json:"snapshot-count,omitempty"`
	HeartbeatIntervalMillis *int32 `json:"heartbeat-interval,omitempty"`
	ElectionTimeoutMillis   *int32 `json:"election-timeout,omitempty"`
	*rocksdbSettings
}

type rocksdbSettings struct {
	BlockCacheBytes                int64  `json:"rocksdb-block-cache-bytes"`
	WriteBufferBytes               int64  `json:"rocksdb-write-buffer-bytes"`
	MaxWriteBufferNumber           int32  `json:"rocksdb-max-write-buffer-number"`
	MaxBackgroundJobs              int32  `json:"rocksdb-max-background-jobs"`
	BloomBitsPerKey                int32  `json:"rocksdb-bloom-bits-per-key"`
	Compression                    string `json:"rocksdb-compression"`
	MaxOpenFiles                   int32  `json:"rocksdb-max-open-files"`
	Level0FileNumCompactionTrigger int32  `json:"rocksdb-level0-file-num-compaction-trigger"`
	Level0SlowdownWritesTrigger    int32  `json:"rocksdb-level0-slowdown-writes-trigger"`
	Level0StopWritesTrigger        int32  `json:"rocksdb-level0-stop-writes-trigger"`
	BytesPerSync                   int64  `json:"rocksdb-bytes-per-sync"`
}

// Members is the ConfigMap that members read at their start: one file each,
// named after the pod, so that no pod spec ever freezes the membership. Where
// the modes of TLS change, each pod has a file for each that is in use beside
// the builder's own: what a pod listens to is settled by its template alone,
// whenever its container starts.
func (b Builder) Members(members []MemberConfig, inUse ...v1alpha1.TLSModes) *corev1.ConfigMap {
	data := make(map[string]string, len(members))
	for _, modes := range append(inUse, b.modes) {
		of := b.WithModes(modes)
		for _, m := range members {
			data[SettingsFile(PodName(b.cluster.Name, m.Ordinal), modes)] = render(of.member(m))
		}
	}
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: b.meta(MembersName(b.cluster.Name)),
		Data:       data,
	}
}

func (b Builder) member(m MemberConfig) memberSettings {
	peers := make([]string, 0, len(m.Peers))
	for _, p := range m.Peers {
		peers = append(peers, PodName(b.cluster.Name, p)+"="+PeerURL(b.cluster, p, slices.Contains(m.Secure, p)))
	}
	state := "existing"
	if m.New {
		state = "new"
	}
	return memberSettings{
		Name:                     PodName(b.cluster.Name, m.Ordinal),
		ListenClientURLs:         schemes(b.modes.Client, func(tls bool) string { return url("0.0.0.0", ClientPort, tls) }),
		AdvertiseClientURLs:      schemes(b.modes.Client, func(tls bool) string { return ClientURL(b.cluster, m.Ordinal, tls) }),
		ListenPeerURLs:           schemes(b.modes.Peer, func(tls bool) string { return url("0.0.0.0", PeerPort, tls) }),
		InitialAdvertisePeerURLs: PeerURL(b.cluster, m.Ordinal, slices.Contains(m.Secure, m.Ordinal)),
		InitialCluster:           strings.Join(peers, ","),
		InitialClusterState:      state,
		InitialClusterToken:      b.token,
		ForceNewClusterOnce:      m.Force,
		sharedSettings:           b.shared(),
		tlsSettings:              b.tls(),
	}
}

func (b Builder) shared() sharedSettings {
	s := sharedSettings{
		DataDir:           dataDir,
		StorageEngine:     strings.ToLower(string(b.cluster.Spec.Engine)),
		QuotaBackendBytes: b.tuning.QuotaBackendBytes,
	}
	if server := b.cluster.Spec.Server; server != nil {
		s.SnapshotCount = server.SnapshotCount
		s.HeartbeatIntervalMillis = server.HeartbeatIntervalMillis
		s.ElectionTimeoutMillis = server.ElectionTimeoutMillis
		if ac := server.AutoCompaction; ac != nil {
			s.AutoCompactionMode, s.AutoCompactionRetention = strings.ToLower(string(ac.Mode)), ac.Retention
		}
	}
	if r := b.tuning.RocksDB; r != nil {
		s.rocksdbSettings = rocksdbFlags(r)
	}
	return s
}

func rocksdbFlags(r *v1alpha1.EffectiveRocksDB) *rocksdbSettings {
	return &rocksdbSettings{
		BlockCacheBytes: r.BlockCacheBytes, WriteBufferBytes: r.WriteBufferBytes,
		MaxWriteBufferNumber: r.MaxWriteBufferNumber, MaxBackgroundJobs: r.MaxBackgroundJobs,
		BloomBitsPerKey: r.BloomBitsPerKey, Compression: strings.ToLower(string(r.Compression)), MaxOpenFiles: r.MaxOpenFiles,
		Level0FileNumCompactionTrigger: r.Level0FileNumCompactionTrigger,
		Level0SlowdownWritesTrigger:    r.Level0SlowdownWritesTrigger,
		Level0StopWritesTrigger:        r.Level0StopWritesTrigger,
		BytesPerSync:                   r.BytesPerSync,
	}
}

// QuotaIsExplicit says that the spec names the quota. One that it does not name
// follows the volume, which grows without a restart: members take it up at their
// next start.
func QuotaIsExplicit(spec *v1alpha1.MetaStoreClusterSpec) bool {
	return spec.Server != nil && spec.Server.QuotaBackendBytes != nil
}

// configHash changes with any setting that needs a restart, and with no change of the membership.
func (b Builder) configHash() string {
	shared := b.shared()
	if !QuotaIsExplicit(&b.cluster.Spec) {
		shared.QuotaBackendBytes = 0
	}
	sum := sha256.Sum256([]byte(render(struct {
		sharedSettings
		tlsSettings
	}{shared, b.tls()})))
	return hex.EncodeToString(sum[:8])
}

// render writes YAML with its keys in order. The settings hold only strings and
// numbers, which YAML always takes.
func render(settings any) string {
	out, err := yaml.Marshal(settings)
	if err != nil {
		panic("render settings: " + err.Error())
	}
	return string(out)
}

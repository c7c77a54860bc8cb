package v1alpha1_test

// createCase is a new cluster: the smallest valid one with lines laid over it.
type createCase struct {
	name  string
	lines []string
	// refusal are fragments of the expected message; none means accepted.
	refusal []string
}

// updateCase changes a cluster that was accepted as before.
type updateCase struct {
	name           string
	before, change []string
	refusal        []string
}

func lines(l ...string) []string { return l }

var creations = []createCase{
	{"smallest", nil, nil},
	{"one replica", lines("replicas: 1"), nil},
	{"seven replicas", lines("replicas: 7"), nil},
	{"no replicas named", lines("replicas: -"), lines("spec.replicas", "Required value")},
	{"zero replicas", lines("replicas: 0"), lines("spec.replicas", "replicas is 0; allowed are 1, 3, 5 and 7")},
	{"negative replicas", lines("replicas: -3"), lines("replicas is -3; allowed are 1, 3, 5 and 7")},
	{"even replicas", lines("replicas: 4"), lines("replicas is 4; allowed are 1, 3, 5 and 7")},
	{"too many replicas", lines("replicas: 9"), lines("replicas is 9; allowed are 1, 3, 5 and 7")},

	{"longest name", lines("metadata.name: a2345678901234567890123456789012345678901234567890"), nil},
	{"name too long", lines("metadata.name: a23456789012345678901234567890123456789012345678901"), lines("metadata.name is a2345", "at most 50")},
	{"name begins with a digit", lines("metadata.name: 1store"), lines("metadata.name is 1store", "a letter first")},
	{"name with a dot", lines("metadata.name: my.store"), lines("metadata.name is my.store")},
	{"name of another's service", lines("metadata.name: store-peers"), lines("metadata.name is store-peers", "not ending in -peers")},

	{"memory engine", lines("engine: Memory"), nil},
	{"unknown engine", lines("engine: Bolt"), lines("spec.engine", `Unsupported value: "Bolt"`, `"Memory", "RocksDB"`)},
	{"rocksdb settings with the memory engine", lines("engine: Memory", "rocksdb: {profile: Auto}"),
		lines("spec.rocksdb", "engine is Memory but rocksdb is set", "only with engine RocksDB")},

	{"version", lines("version: 1.2.3-rc.1"), nil},
	{"version that is none", lines("version: latest"), lines("version is latest", "such as 1.2.3")},
	{"image with registry, port and tag", lines("image: 'registry.example:5000/team/metastore:1.2.3'"), nil},
	{"image without a tag beside a version", lines("image: 'registry.example:5000/metastore'", "version: 1.2.3"), nil},
	{"image with digest", lines("image: metastore@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), nil},
	{"image with spaces", lines("image: 'a b'"), lines("image is a b; allowed is an image reference")},
	{"image with tag beside a version", lines("image: 'metastore:1'", "version: 1.2.3"), lines("image is metastore:1 and version is 1.2.3")},
	{"image with digest beside a version", lines("image: metastore@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "version: 1.2.3"),
		lines("and version is 1.2.3", "no version")},
	{"pull policy", lines("imagePullPolicy: Never"), nil},
	{"unknown pull policy", lines("imagePullPolicy: Sometimes"), lines("spec.imagePullPolicy", `"Sometimes"`)},

	{"no storage", lines("storage: -"), lines("spec.storage", "Required value")},
	{"no size", lines("storage: {}"), lines("spec.storage.size", "Required value")},
	{"size in plain bytes", lines("storage.size: 1073741824"), nil},
	{"tiny volume", lines("storage.size: 10Mi"), lines("spec.storage.size", "storage.size is 10Mi; allowed is 256Mi or more")},
	{"negative volume", lines("storage.size: -1Gi"), lines("storage.size is -1Gi; allowed is 256Mi or more")},
	{"size that is none", lines("storage.size: large"), lines("spec.storage.size", `"large"`)},
	{"empty class", lines("storage.storageClassName: ''"), lines("spec.storage.storageClassName")},

	{"resources", lines("resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 2, memory: 1Gi}}"), nil},
	{"more memory requested than allowed", lines("resources: {requests: {memory: 2Gi}, limits: {memory: 1Gi}}"),
		lines("resources.requests.memory is 2Gi; allowed is at most resources.limits.memory, which is 1Gi")},
	{"more cpu requested than allowed", lines("resources: {requests: {cpu: 2}, limits: {cpu: 1500m}}"),
		lines("resources.requests.cpu is 2; allowed is at most resources.limits.cpu, which is 1500m")},
	{"too little memory", lines("resources: {limits: {memory: 64Mi}}"), lines("resources.limits.memory is 64Mi; allowed is 128Mi or more")},

	{"custom rocksdb", lines("rocksdb: {profile: Custom, blockCacheSize: 64Mi, writeBufferSize: 16Mi, maxWriteBufferNumber: 4, maxBackgroundJobs: 2, " +
		"bloomBitsPerKey: 0, compression: ZSTD, maxOpenFiles: -1, level0FileNumCompactionTrigger: 2, level0SlowdownWritesTrigger: 3, " +
		"level0StopWritesTrigger: 4, bytesPerSync: 0}"), nil},
	{"unknown profile", lines("rocksdb: {profile: Fast}"), lines("spec.rocksdb.profile", `"Fast"`, `"Auto", "Custom"`)},
	{"unknown compression", lines("rocksdb: {profile: Custom, compression: Gzip}"), lines("spec.rocksdb.compression", `"Gzip"`)},
	{"block cache too small", custom("blockCacheSize: 1Ki"), lines("rocksdb.blockCacheSize is 1Ki; allowed is 1Mi or more")},
	{"write buffer too small", custom("writeBufferSize: 1Ki"), lines("rocksdb.writeBufferSize is 1Ki; allowed is 1Mi to 4Gi")},
	{"write buffer too large", custom("writeBufferSize: 5Gi"), lines("rocksdb.writeBufferSize is 5Gi; allowed is 1Mi to 4Gi")},
	{"one write buffer", custom("maxWriteBufferNumber: 1"), lines("rocksdb.maxWriteBufferNumber is 1; allowed is 2 to 16")},
	{"no background job", custom("maxBackgroundJobs: 0"), lines("rocksdb.maxBackgroundJobs is 0; allowed is 2 to 64")},
	{"negative bloom bits", custom("bloomBitsPerKey: -1"), lines("rocksdb.bloomBitsPerKey is -1; allowed is 0 to 32")},
	{"no open files", custom("maxOpenFiles: 0"), lines("rocksdb.maxOpenFiles is 0; allowed is -1 or 64 to 1000000")},
	{"no compaction trigger", custom("level0FileNumCompactionTrigger: 0"), lines("rocksdb.level0FileNumCompactionTrigger is 0; allowed is 1 to 1000")},
	{"slowdown trigger out of range", custom("level0SlowdownWritesTrigger: 1"), lines("rocksdb.level0SlowdownWritesTrigger is 1; allowed is 2 to 1000")},
	{"stop trigger out of range", custom("level0StopWritesTrigger: 2"), lines("rocksdb.level0StopWritesTrigger is 2; allowed is 3 to 1000")},
	{"slowdown below compaction", custom("level0FileNumCompactionTrigger: 10, level0SlowdownWritesTrigger: 10"),
		lines("rocksdb.level0SlowdownWritesTrigger is 10; allowed is more than level0FileNumCompactionTrigger, which is 10")},
	{"slowdown below the compaction that holds", custom("level0SlowdownWritesTrigger: 4"),
		lines("rocksdb.level0SlowdownWritesTrigger is 4; allowed is more than level0FileNumCompactionTrigger, which is 4")},
	{"stop below slowdown", custom("level0SlowdownWritesTrigger: 30, level0StopWritesTrigger: 30"),
		lines("rocksdb.level0StopWritesTrigger is 30; allowed is more than level0SlowdownWritesTrigger, which is 30")},
	{"stop that holds below slowdown", custom("level0SlowdownWritesTrigger: 40"),
		lines("rocksdb.level0StopWritesTrigger is 36; allowed is more than level0SlowdownWritesTrigger, which is 40")},
	{"too many bytes per sync", custom("bytesPerSync: 2Gi"), lines("rocksdb.bytesPerSync is 2Gi; allowed is 0 to 1Gi")},

	{"server", lines("server: {quotaBackendBytes: 512Mi, snapshotCount: 10000, heartbeatIntervalMillis: 200, electionTimeoutMillis: 1000}"), nil},
	{"quota above the volume", lines("server: {quotaBackendBytes: 2Gi}"),
		lines("server.quotaBackendBytes is 2Gi; allowed is at most storage.size, which is 1Gi")},
	{"tiny quota", lines("server: {quotaBackendBytes: 1Mi}"), lines("server.quotaBackendBytes is 1Mi; allowed is 16Mi or more")},
	{"no snapshots", lines("server: {snapshotCount: 0}"), lines("server.snapshotCount is 0; allowed is 100 or more")},
	{"heartbeat too short", lines("server: {heartbeatIntervalMillis: 1}"), lines("server.heartbeatIntervalMillis is 1; allowed is 10 to 10000")},
	{"election too long", lines("server: {electionTimeoutMillis: 60000}"), lines("server.electionTimeoutMillis is 60000; allowed is 50 to 50000")},
	{"election too near to the heartbeat", lines("server: {heartbeatIntervalMillis: 300, electionTimeoutMillis: 1499}"),
		lines("server.electionTimeoutMillis is 1499; allowed is at least 5 x heartbeatIntervalMillis, which is 300")},
	{"heartbeat too near to the election that holds", lines("server: {heartbeatIntervalMillis: 201}"),
		lines("server.electionTimeoutMillis is 1000; allowed is at least 5 x heartbeatIntervalMillis, which is 201")},
	{"election too near to the heartbeat that holds", lines("server: {electionTimeoutMillis: 499}"),
		lines("server.electionTimeoutMillis is 499", "which is 100")},

	{"compaction by time", lines("server: {autoCompaction: {mode: Periodic, retention: 1h30m}}"), nil},
	{"compaction by revision", lines("server: {autoCompaction: {mode: Revision, retention: '10000'}}"), nil},
	{"unknown mode", lines("server: {autoCompaction: {mode: Never, retention: '1'}}"), lines("autoCompaction.mode", `"Never"`)},
	{"no mode", lines("server: {autoCompaction: {retention: '1'}}"), lines("autoCompaction.mode", "Required value")},
	{"time without a unit", lines("server: {autoCompaction: {mode: Periodic, retention: '5'}}"),
		lines("autoCompaction.retention is 5; allowed with mode Periodic is a duration such as 1h or 30m")},
	{"revisions with a unit", lines("server: {autoCompaction: {mode: Revision, retention: 1h}}"),
		lines("autoCompaction.retention is 1h; allowed with mode Revision is a number of revisions")},

	{"a volume that grows", lines("storage: {size: 1Gi, autoGrow: {maxSize: 10Gi}}"), nil},
	{"a volume that grows to less", lines("storage: {size: 1Gi, autoGrow: {maxSize: 512Mi}}"),
		lines("storage.autoGrow.maxSize is 512Mi; allowed is storage.size, which is 1Gi, or more")},

	{"repair", lines("repair: {mode: Manual, gracePeriod: 1m30s, lostNode: Replace, quorumLoss: Recover}"), nil},
	{"no grace at all", lines("repair: {gracePeriod: 0s}"), lines("repair.gracePeriod is 0s; allowed is a duration such as 30s or 5m, of 1s to 24h")},
	{"grace without a unit", lines("repair: {gracePeriod: '30'}"), lines("repair.gracePeriod is 30; allowed is a duration")},
	{"unknown repair", lines("repair: {mode: Never}"), lines("repair.mode", `"Never"`)},
	{"unknown policy of nodes", lines("repair: {lostNode: Forget}"), lines("repair.lostNode", `"Forget"`)},
	{"unknown policy of the quorum", lines("repair: {quorumLoss: Force}"), lines("repair.quorumLoss", `"Force"`)},
	{"update", lines("update: {strategy: OnDelete, minReadySeconds: 30}"), nil},
	{"unknown strategy", lines("update: {strategy: Recreate}"), lines("update.strategy", `"Recreate"`)},
	{"ready too long", lines("update: {minReadySeconds: 7200}"), lines("update.minReadySeconds is 7200; allowed is 0 to 3600")},
	{"paused, hibernated and gone", lines("paused: true", "hibernated: true", "deletionPolicy: Delete"), nil},
	{"a backup before its end, and before updates", lines("deletionPolicy: BackupThenDelete", "deletionBackup: {destination: {pvc: {claimName: a}}}",
		"update: {preUpdateBackup: {destination: {pvc: {claimName: a}}, verify: RestoreTest}}"), nil},
	{"a backup before its end to nowhere", lines("deletionPolicy: BackupThenDelete"),
		lines("spec.deletionPolicy", "deletionPolicy is BackupThenDelete but deletionBackup is not set; it has to say where the last backup goes")},
	{"unknown deletion policy", lines("deletionPolicy: Burn"), lines("deletionPolicy", `"Burn"`)},

	{"pod template", lines("podTemplate: {metadata: {labels: {team: a}, annotations: {b: c}}, spec: {nodeSelector: {disk: ssd}, " +
		"tolerations: [{key: a, operator: Exists}], topologySpreadConstraints: [], priorityClassName: high, serviceAccountName: s, " +
		"imagePullSecrets: [{name: p}], terminationGracePeriodSeconds: 5, affinity: {podAntiAffinity: {}}, " +
		"securityContext: {runAsUser: 1, runAsGroup: 1, fsGroup: 1, fsGroupChangePolicy: Always, seLinuxOptions: {level: s0}}}}"), nil},
	{"probes", lines("podTemplate: {probes: {startup: {failureThreshold: 7200}, liveness: {periodSeconds: 30, timeoutSeconds: 10}, readiness: {}}}"), nil},
	{"a probe in no time", lines("podTemplate: {probes: {readiness: {periodSeconds: 0}}}"), lines("periodSeconds is 0; allowed is 1 to 300")},
	{"a probe that forgives too much", lines("podTemplate: {probes: {startup: {failureThreshold: 86401}}}"), lines("failureThreshold is 86401; allowed is 1 to 86400")},
	{"a probe that never ends", lines("podTemplate: {probes: {liveness: {timeoutSeconds: 0}}}"), lines("timeoutSeconds is 0; allowed is 1 to 300")},
	{"operator's label", lines("podTemplate: {metadata: {labels: {app.kubernetes.io/name: x, team: a}}}"),
		lines(`podTemplate.metadata.labels has ["app.kubernetes.io/name"]; labels of`)},
	{"operator's annotation", lines("podTemplate: {metadata: {annotations: {metastore.io/config-hash: x}}}"),
		lines(`podTemplate.metadata.annotations has ["metastore.io/config-hash"];`)},
	{"TLS by the operator's authority", lines("tls: {client: {mode: Required, source: {selfSigned: {}}}, peer: {mode: Permissive, source: {selfSigned: {}}}}"), nil},
	{"TLS by cert-manager", lines("tls: {client: {mode: Required, clientCertificates: Required, source: {certManager: {issuerRef: {name: a, kind: ClusterIssuer}}}}}"), nil},
	{"TLS by nobody's cert-manager", lines("tls: {peer: {mode: Required, source: {certManager: {issuerRef: {name: ''}}}}}"), lines("spec.tls.peer.source.certManager.issuerRef.name")},
	{"TLS by Secrets", lines("tls: {client: {mode: Required, clientCertificates: Required, source: {secretRef: {name: a}}, operatorSecretRef: {name: b}}}"), nil},
	{"TLS without a source, which is off", lines("tls: {client: {mode: Disabled}, peer: {mode: Disabled}}"), nil},
	{"client TLS from nowhere", lines("tls: {client: {mode: Required}}"), lines("spec.tls.client", "tls.client.mode is Required but tls.client.source is not set; allowed is one of selfSigned, secretRef and certManager")},
	{"peer TLS from nowhere", lines("tls: {peer: {mode: Permissive}}"), lines("tls.peer.mode is Permissive but tls.peer.source is not set")},
	{"two sources", lines("tls: {peer: {mode: Required, source: {selfSigned: {}, secretRef: {name: a}}}}"), lines("a source is to have exactly one of selfSigned, secretRef and certManager")},
	{"users", lines("auth: {rootCredentialsSecretRef: {name: a}}"), nil},
	{"users without a password", lines("auth: {}"), lines("spec.auth.rootCredentialsSecretRef", "Required value")},
	{"an empty source", lines("tls: {peer: {mode: Required, source: {}}}"), lines("a source is to have exactly one of selfSigned, secretRef and certManager")},
	{"an unknown mode", lines("tls: {peer: {mode: Maybe, source: {selfSigned: {}}}}"), lines("tls.peer.mode", "Maybe")},
	{"the operator's certificate beside its own authority", lines("tls: {client: {mode: Required, source: {selfSigned: {}}, operatorSecretRef: {name: b}}}"),
		lines("tls.client.operatorSecretRef is set but tls.client.source.secretRef is not")},
	{"client certificates without one for the operator", lines("tls: {client: {mode: Required, clientCertificates: Required, source: {secretRef: {name: a}}}}"),
		lines("tls.client.clientCertificates is Required with source.secretRef but tls.client.operatorSecretRef is not set")},
	{"root user", lines("podTemplate: {spec: {securityContext: {runAsUser: 0}}}"), lines("securityContext.runAsUser is 0", "do not run as root")},
	{"root group", lines("podTemplate: {spec: {securityContext: {runAsGroup: 0}}}"), lines("securityContext.runAsGroup is 0")},
	{"root's volume", lines("podTemplate: {spec: {securityContext: {fsGroup: 0}}}"), lines("securityContext.fsGroup is 0")},
	{"no grace", lines("podTemplate: {spec: {terminationGracePeriodSeconds: 0}}"), lines("terminationGracePeriodSeconds is 0; allowed is 5 to 3600")},
}

// custom lays single settings under profile Custom.
func custom(settings string) []string { return lines("rocksdb: {profile: Custom, " + settings + "}") }

func init() {
	// Each setting by itself needs profile Custom, so that none is forgotten in the rule.
	for _, setting := range lines("blockCacheSize: 64Mi", "writeBufferSize: 16Mi", "maxWriteBufferNumber: 4", "maxBackgroundJobs: 2",
		"bloomBitsPerKey: 10", "compression: LZ4", "maxOpenFiles: 100", "level0FileNumCompactionTrigger: 5",
		"level0SlowdownWritesTrigger: 21", "level0StopWritesTrigger: 37", "bytesPerSync: 1Mi") {
		refusal := lines("rocksdb.profile is Auto but single settings are set; they are allowed only with profile Custom")
		creations = append(creations,
			createCase{"profile Auto with " + setting, lines("rocksdb: {profile: Auto, " + setting + "}"), refusal},
			createCase{"no profile with " + setting, lines("rocksdb: {" + setting + "}"), refusal})
	}
}

var updates = []updateCase{
	{"grow the cluster", nil, lines("replicas: 5"), nil},
	{"shrink the cluster", nil, lines("replicas: 1"), nil},
	{"even number", nil, lines("replicas: 2"), lines("replicas is 2; allowed are 1, 3, 5 and 7")},
	{"another engine", nil, lines("engine: Memory"), lines("spec.engine", "engine is RocksDB and cannot become Memory")},
	{"engine named that was implied", nil, lines("engine: RocksDB"), nil},
	{"engine no longer named", lines("engine: Memory"), lines("engine: -"), lines("engine is Memory and cannot become RocksDB")},
	{"grow the volume", nil, lines("storage.size: 2Gi"), nil},
	{"the same volume, written otherwise", nil, lines("storage.size: 1024Mi"), nil},
	{"shrink the volume", nil, lines("storage.size: 1023Mi"), lines("spec.storage.size", "storage.size is 1Gi and cannot shrink to 1023Mi")},
	{"set a class", nil, lines("storage.storageClassName: fast"), nil},
	{"change the class", lines("storage.storageClassName: slow"), lines("storage.storageClassName: fast"), nil},
	{"drop the class", lines("storage.storageClassName: slow"), lines("storage.storageClassName: -"),
		lines("storage.storageClassName is slow and cannot become unset; name the class to move to")},
	{"grow beyond the limit of growth", lines("storage: {size: 1Gi, autoGrow: {maxSize: 2Gi}}"), lines("storage.size: 3Gi"),
		lines("storage.autoGrow.maxSize is 2Gi; allowed is storage.size, which is 3Gi, or more")},
	{"another version", lines("version: 1.0.0"), lines("version: 1.1.0"), nil},
	{"turn to custom", lines("rocksdb: {profile: Auto}"), lines("rocksdb: {profile: Custom, maxBackgroundJobs: 4}"), nil},
}

package v1alpha1_test

const restore = "MetaStoreRestore"

func init() {
	smallest[restore] = "{mode: NewCluster, clusterName: store, source: {backupRef: {name: nightly}}}"
	otherKinds = append(otherKinds, restores...)
	creations = append(creations, createCase{"begins with a restore", lines("bootstrap: {restore: r}"), nil},
		createCase{"begins with nothing", lines("bootstrap: {}"), lines("spec.bootstrap.restore", "Required value")})
	updates = append(updates,
		updateCase{"another beginning", lines("bootstrap: {restore: r}"), lines("bootstrap.restore: s"), lines("spec.bootstrap", "bootstrap was set and cannot be changed")},
		updateCase{"no beginning any more", lines("bootstrap: {restore: r}"), lines("bootstrap: -"), lines("bootstrap was set and cannot be changed")},
		updateCase{"a beginning after all", nil, lines("bootstrap: {restore: r}"), lines("bootstrap was not set and cannot be changed")},
		updateCase{"more of the same beginning", lines("bootstrap: {restore: r}"), lines("replicas: 5"), nil})
}

const (
	inPlace  = "mode: InPlace"
	confirm  = "confirmClusterName: store"
	toVolume = "{pvc: {claimName: a}}"
)

var restores = []kindCase{
	{restore, "smallest", nil, nil, nil},
	{restore, "full", lines(inPlace, confirm, "source: {artifact: {destination: {pvc: {claimName: a, subPath: b}}, name: apps/store/nightly-1}}",
		"encryption: {secretRef: {name: age}}", "allowForeignCluster: true", "revisionBump: 5", "preRestoreBackup: "+toVolume), nil, nil},
	{restore, "of etcd", lines("source: {etcdSnapshot: {destination: "+toVolume+", file: snapshot.db}}", "revisionBump: 0"), nil, nil},
	{restore, "from a survivor", lines("mode: ForceNewCluster", confirm, "source: -"), nil, nil},
	{restore, "a long name", lines("metadata.name: x12345678901234567890123456789012345678901234567890"), nil, lines("metadata.name is x123", "at most 50 characters")},
	{restore, "of an unknown mode", lines("mode: Merge"), nil, lines("mode", `"Merge"`)},
	{restore, "of no cluster", lines("clusterName: -"), nil, lines("spec.clusterName", "Required value")},
	{restore, "unconfirmed", lines(inPlace), nil, lines("spec.confirmClusterName", "confirmClusterName is not set; with mode InPlace it has to be store")},
	{restore, "confirmed for another", lines(inPlace, "confirmClusterName: other"), nil, lines("confirmClusterName is other; with mode InPlace it has to be store")},
	{restore, "unconfirmed, from a survivor", lines("mode: ForceNewCluster", "source: -"), nil, lines("confirmClusterName is not set; with mode ForceNewCluster")},
	{restore, "of nothing", lines("source: -"), nil, lines("source is not set; it is needed with the modes NewCluster and InPlace")},
	{restore, "of an empty source", lines("source: {}"), nil, lines("source has 0 of them; allowed is exactly one of backupRef, artifact and etcdSnapshot")},
	{restore, "of two sources", lines("source.etcdSnapshot: {destination: " + toVolume + ", file: a}"), nil, lines("source has 2 of them")},
	{restore, "from a survivor and a source", lines("mode: ForceNewCluster", confirm), nil, lines("source is set", "mode is ForceNewCluster")},
	{restore, "from a survivor, ahead", lines("mode: ForceNewCluster", confirm, "source: -", "revisionBump: 5"), nil,
		lines("mode is ForceNewCluster; revisionBump and encryption are not allowed with it")},
	{restore, "back in time", lines(inPlace, confirm, "revisionBump: 0"), nil, lines("revisionBump is 0; allowed with mode InPlace is 1 or more")},
	{restore, "far back in time", lines("revisionBump: -1"), nil, lines("revisionBump is -1; allowed is 0 to 1000000000000")},
	{restore, "with a backup of what is not there", lines("preRestoreBackup: " + toVolume), nil, lines("mode is NewCluster; preRestoreBackup is allowed with mode InPlace only")},
	{restore, "of a foreign cluster into a new one", lines("allowForeignCluster: true"), nil, lines("mode is NewCluster; allowForeignCluster is allowed with mode InPlace only")},
	{restore, "of an artifact elsewhere", lines("source: {artifact: {destination: " + toVolume + ", name: ../a}}"), nil, lines("artifact.name is ../a; allowed is a relative path")},
	{restore, "of a file elsewhere", lines("source: {etcdSnapshot: {destination: " + toVolume + ", file: /a}}"), nil, lines("etcdSnapshot.file is /a; allowed is a relative path")},
	{restore, "with a label", nil, lines("metadata.labels: {a: b}"), nil},
	{restore, "of another backup", nil, lines("source.backupRef.name: other"), lines("the spec of the restore of store cannot be changed; make another restore")},
}

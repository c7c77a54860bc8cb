package v1alpha1_test

import (
	"context"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// kindCase is a new object of another kind, and, where there is a change, what
// becomes of it: the refusal is of the last step.
type kindCase struct {
	kind, name     string
	before, change []string
	refusal        []string
}

func init() {
	smallest["MetaStoreBackup"] = "{clusterRef: {name: store}, destination: {pvc: {claimName: backups}}}"
	smallest["MetaStoreBackupSchedule"] = "{schedule: '0 3 * * *', template: {spec: " + smallest["MetaStoreBackup"] + "}}"
}

func (j *judges) otherKind(t *testing.T, c client.Client, tc kindCase) {
	ctx := context.Background()
	o := manifestOf(t, tc.kind, tc.before...)
	if tc.change == nil {
		j.judge(t, c.Create(ctx, o, client.DryRunAll, client.FieldValidation("Strict")), tc.refusal)
		return
	}
	if err := c.Create(ctx, o); err != nil {
		t.Fatal(err)
	}
	overlay(t, o, tc.change)
	j.judge(t, c.Update(ctx, o, client.DryRunAll), tc.refusal)
	if err := c.Delete(ctx, o); err != nil {
		t.Fatal(err)
	}
}

const (
	backup   = "MetaStoreBackup"
	schedule = "MetaStoreBackupSchedule"
	bucket   = "destination: {objectStore: {endpoint: 'https://s3.example.org', bucket: backups, credentialsSecretRef: {name: a}}}"
)

var otherKinds = []kindCase{
	{backup, "smallest", nil, nil, nil},
	{backup, "full", lines("compression: None", "encryption: {secretRef: {name: age}}", "verify: RestoreTest", "activeDeadlineSeconds: 600", "backoffLimit: 0",
		"ttlSecondsAfterFinished: 0", "deletionPolicy: Delete", "resources: {limits: {memory: 256Mi}}",
		"destination: {pvc: {claimName: a, subPath: b/c.d, create: {size: 1Gi, storageClassName: fast}}}"), nil, nil},
	{backup, "to a bucket", lines(bucket), nil, nil},
	{backup, "to a bucket's folder", lines("destination: {objectStore: {endpoint: 'http://10.0.0.1:9000', bucket: backups, prefix: a/b, region: eu-1, " +
		"credentialsSecretRef: {name: a}, caSecretRef: {name: b}}}"), nil, nil},
	{backup, "a long name", lines("metadata.name: " + longName), nil, lines("metadata.name is xxx", "at most 100 characters")},
	{backup, "of nothing", lines("clusterRef: {}"), nil, lines("spec.clusterRef.name", "Required value")},
	{backup, "to nowhere", lines("destination: {}"), nil, lines("a destination has neither; allowed is exactly one of pvc and objectStore")},
	{backup, "to two places", lines(bucket, "destination.pvc: {claimName: a}"), nil, lines("a destination has pvc and objectStore")},
	{backup, "out of its folder", lines("destination.pvc.subPath: a/../b"), nil, lines("subPath is a/../b; allowed is a relative path")},
	{backup, "to an absolute folder", lines("destination.pvc.subPath: /a"), nil, lines("subPath is /a")},
	{backup, "to a small volume", lines("destination.pvc.create: {size: 1Ki}"), nil, lines("create.size is 1Ki; allowed is 1Mi or more")},
	{backup, "to a store without a scheme", lines(bucket, "destination.objectStore.endpoint: s3.example.org"), nil, lines("endpoint is s3.example.org; allowed is a URL")},
	{backup, "to a bad bucket", lines(bucket, "destination.objectStore.bucket: Up"), nil, lines("bucket is Up; allowed are 3 to 63 lower-case letters")},
	{backup, "out of its bucket", lines(bucket, "destination.objectStore.prefix: ../a"), nil, lines("prefix is ../a")},
	{backup, "in a strange region", lines(bucket, "destination.objectStore.region: a b"), nil, lines("region is a b")},
	{backup, "without credentials", lines("destination: {objectStore: {endpoint: 'https://s3.example.org', bucket: backups}}"), nil, lines("credentialsSecretRef", "Required value")},
	{backup, "compressed strangely", lines("compression: Zip"), nil, lines("compression", `"Zip"`)},
	{backup, "verified strangely", lines("verify: Never"), nil, lines("verify", `"Never"`)},
	{backup, "in no time", lines("activeDeadlineSeconds: 0"), nil, lines("activeDeadlineSeconds is 0; allowed is 10 to 604800")},
	{backup, "tried too often", lines("backoffLimit: 21"), nil, lines("backoffLimit is 21; allowed is 0 to 20")},
	{backup, "gone before it is there", lines("ttlSecondsAfterFinished: -1"), nil, lines("ttlSecondsAfterFinished is -1; allowed is 0 or more")},
	{backup, "deleted strangely", lines("deletionPolicy: Burn"), nil, lines("deletionPolicy", `"Burn"`)},
	{backup, "of another cluster", nil, lines("clusterRef.name: other"), lines("the spec of the backup of store cannot be changed; make another backup")},
	{backup, "with a label", nil, lines("metadata.labels: {a: b}"), nil},

	{schedule, "smallest", nil, nil, nil},
	{schedule, "full", lines("timeZone: America/Argentina/Buenos_Aires", "suspend: true", "concurrencyPolicy: Replace", "startingDeadlineSeconds: 600",
		"schedule: 0,30 2-4/2 1 JAN MON-FRI", "template.spec.deletionPolicy: Delete", "retention: {keepLast: 3, daily: 7, weekly: 4, monthly: 12, minKeep: 2}"), nil, nil},
	{schedule, "by name", lines("schedule: '@daily'"), nil, nil},
	{schedule, "a long name", lines("metadata.name: x1234567890123456789012345678901234567890123456789012"), nil, lines("metadata.name is x123", "at most 52 characters")},
	{schedule, "with four fields", lines("schedule: '0 3 * *'"), nil, lines("schedule is 0 3 * *; allowed are five fields such as 30 2 * * *, or @hourly")},
	{schedule, "with seconds", lines("schedule: '0 0 3 * * *'"), nil, lines("schedule is 0 0 3 * * *")},
	{schedule, "with a time zone inside", lines("schedule: 'TZ=UTC 0 3 * * *'"), nil, lines("schedule is TZ=UTC")},
	{schedule, "every so often", lines("schedule: '@every 1h'"), nil, lines("schedule is @every 1h")},
	{schedule, "in no time zone", lines("timeZone: ../etc"), nil, lines("timeZone is ../etc; allowed is a name such as UTC or Europe/Berlin")},
	{schedule, "in the operator's time zone", lines("timeZone: Local"), nil, lines("timeZone is Local")},
	{schedule, "with an unknown policy", lines("concurrencyPolicy: Allow"), nil, lines("concurrencyPolicy", `"Allow"`)},
	{schedule, "that is never late", lines("startingDeadlineSeconds: 1"), nil, lines("startingDeadlineSeconds is 1; allowed is 10 or more")},
	{schedule, "that leaves artifacts", lines("retention: {keepLast: 3}"), nil,
		lines("spec.retention", "retention is set but template.spec.deletionPolicy is left out; allowed with retention is Delete")},
	{schedule, "that lets the last good one go", lines("template.spec.ttlSecondsAfterFinished: 60"), nil, lines("template.spec.ttlSecondsAfterFinished is 60; a schedule has retention instead")},
	{schedule, "that keeps nothing", lines("template.spec.deletionPolicy: Delete", "retention: {minKeep: 2}"), nil, lines("retention is empty; allowed is at least one of")},
	{schedule, "that keeps none", lines("template.spec.deletionPolicy: Delete", "retention: {keepLast: 0}"), nil, lines("retention.keepLast is 0; allowed is 1 to 1000")},
	{schedule, "of too many days", lines("template.spec.deletionPolicy: Delete", "retention: {daily: 1001}"), nil, lines("retention.daily is 1001; allowed is 0 to 1000")},
	{schedule, "of negative weeks", lines("template.spec.deletionPolicy: Delete", "retention: {weekly: -1}"), nil, lines("retention.weekly is -1")},
	{schedule, "of negative months", lines("template.spec.deletionPolicy: Delete", "retention: {monthly: -1}"), nil, lines("retention.monthly is -1")},
	{schedule, "that keeps not even one", lines("template.spec.deletionPolicy: Delete", "retention: {daily: 1, minKeep: 0}"), nil, lines("retention.minKeep is 0; allowed is 1 to 1000")},
	{schedule, "with a template of nothing", lines("template.spec.destination: {}"), nil, lines("a destination has neither")},
	{schedule, "of another cluster", nil, lines("template.spec.clusterRef.name: other"), lines("template.spec.clusterRef.name is store and cannot become other; make another schedule")},
	{schedule, "to another place", nil, lines("template.spec.destination: {pvc: {claimName: other}}"), nil},
}

const longName = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

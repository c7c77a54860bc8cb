package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KindMetaStoreBackupSchedule is the kind of a MetaStoreBackupSchedule.
const KindMetaStoreBackupSchedule = "MetaStoreBackupSchedule"

const (
	// AnnotationBackupNow, on a MetaStoreBackupSchedule, has a backup made at once,
	// also while it is suspended: once for each value that it takes.
	AnnotationBackupNow = "metastore.io/backup-now"
	// LabelSchedule, on a MetaStoreBackup, is the schedule that made it.
	LabelSchedule = "metastore.io/schedule"
	// AnnotationScheduledAt, on a MetaStoreBackup, is the time that it was due, as
	// RFC 3339 has it; absent on one that was asked for at once.
	AnnotationScheduledAt = "metastore.io/scheduled-at"
)

// MetaStoreBackupSchedule makes MetaStoreBackups by the clock, and deletes those
// that its retention does not keep. The backups stay when it is deleted.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=msbs,categories=all
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.template.spec.clusterRef.name`
// +kubebuilder:printcolumn:name="Schedule",type=string,JSONPath=`.spec.schedule`
// +kubebuilder:printcolumn:name="Suspended",type=boolean,JSONPath=`.spec.suspend`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Last Success",type=date,JSONPath=`.status.lastSuccessfulTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52",messageExpression="'metadata.name is %s; allowed are at most 52 characters: backups are named after it'.format([self.metadata.name])"
type MetaStoreBackupSchedule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec MetaStoreBackupScheduleSpec `json:"spec"`
	// Until an operator has seen it the observed generation is -1: kstatus takes an
	// object without any for current.
	//
	// +optional
	// +kubebuilder:default:={"observedGeneration":-1}
	Status MetaStoreBackupScheduleStatus `json:"status,omitempty"`
}

// MetaStoreBackupScheduleList is a list of MetaStoreBackupSchedules.
//
// +kubebuilder:object:root=true
type MetaStoreBackupScheduleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MetaStoreBackupSchedule `json:"items"`
}

// BackupConcurrency says what happens to a backup that is due while another of
// the same schedule goes on.
//
// +kubebuilder:validation:Enum=Forbid;Replace
type BackupConcurrency string

const (
	// BackupForbid has it wait for the end of the other.
	BackupForbid BackupConcurrency = "Forbid"
	// BackupReplace deletes the other.
	BackupReplace BackupConcurrency = "Replace"
)

// MetaStoreBackupScheduleSpec says when backups are made, and which are kept.
//
// +kubebuilder:validation:XValidation:rule="!has(self.retention) || has(self.template.spec.deletionPolicy) && self.template.spec.deletionPolicy == 'Delete'",messageExpression="'retention is set but template.spec.deletionPolicy is %s; allowed with retention is Delete: else the artifacts would stay for ever'.format([has(self.template.spec.deletionPolicy) ? self.template.spec.deletionPolicy : 'left out'])",fieldPath=".retention"
// +kubebuilder:validation:XValidation:rule="!has(self.template.spec.ttlSecondsAfterFinished)",messageExpression="'template.spec.ttlSecondsAfterFinished is %s; a schedule has retention instead, which keeps the last good backup'.format([self.template.spec.ttlSecondsAfterFinished])",fieldPath=".template"
// +kubebuilder:validation:XValidation:rule="self.template.spec.clusterRef.name == oldSelf.template.spec.clusterRef.name",messageExpression="'template.spec.clusterRef.name is %s and cannot become %s; make another schedule'.format([oldSelf.template.spec.clusterRef.name, self.template.spec.clusterRef.name])",fieldPath=".template"
type MetaStoreBackupScheduleSpec struct {
	// Schedule is a line of cron: minute, hour, day of the month, month, day of the
	// week; or @hourly, @daily, @weekly, @monthly, @yearly.
	//
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[0-9A-Za-z*/,?-]+( +[0-9A-Za-z*/,?-]+){4})$')",messageExpression="'schedule is %s; allowed are five fields such as 30 2 * * *, or @hourly, @daily, @weekly, @monthly and @yearly'.format([self])"
	Schedule string `json:"schedule"`

	// TimeZone that the schedule, and the days of the retention, are in, as the IANA
	// database names it; UTC when left out. A time that does not exist on a day when
	// clocks go forward is left out on that day; one that exists twice counts twice.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$') && self != 'Local'",messageExpression="'timeZone is %s; allowed is a name such as UTC or Europe/Berlin'.format([self])"
	TimeZone string `json:"timeZone,omitempty"`

	// Suspend makes no backups by the clock. The last one that was missed is made up
	// for afterwards, within startingDeadlineSeconds.
	//
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// ConcurrencyPolicy is Forbid when left out.
	//
	// +optional
	ConcurrencyPolicy BackupConcurrency `json:"concurrencyPolicy,omitempty"`

	// StartingDeadlineSeconds is how late a backup may begin; left out, however late.
	// Of several that were missed only the last is made up for.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 10",messageExpression="'startingDeadlineSeconds is %s; allowed is 10 or more'.format([self])"
	StartingDeadlineSeconds *int64 `json:"startingDeadlineSeconds,omitempty"`

	// Retention says which complete backups are kept; left out, all of them. Of
	// failed ones the last three are kept.
	//
	// +optional
	Retention *BackupRetention `json:"retention,omitempty"`

	// Template of the MetaStoreBackups.
	Template BackupTemplate `json:"template"`
}

// BackupTemplate is what a schedule makes MetaStoreBackups of.
type BackupTemplate struct {
	Spec MetaStoreBackupSpec `json:"spec"`
}

// BackupRetention keeps a backup that one of its rules keeps. The last complete
// one is always kept.
//
// +kubebuilder:validation:XValidation:rule="has(self.keepLast) || has(self.daily) || has(self.weekly) || has(self.monthly)",message="retention is empty; allowed is at least one of keepLast, daily, weekly and monthly"
type BackupRetention struct {
	// KeepLast is how many of the newest are kept.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 1000",messageExpression="'retention.keepLast is %s; allowed is 1 to 1000'.format([self])"
	KeepLast *int32 `json:"keepLast,omitempty"`
	// Daily is for how many days, of those that have a backup, the newest of the day
	// is kept; Weekly and Monthly are the same for weeks, which begin on Mondays, and months.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 1000",messageExpression="'retention.daily is %s; allowed is 0 to 1000'.format([self])"
	Daily *int32 `json:"daily,omitempty"`
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 1000",messageExpression="'retention.weekly is %s; allowed is 0 to 1000'.format([self])"
	Weekly *int32 `json:"weekly,omitempty"`
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 1000",messageExpression="'retention.monthly is %s; allowed is 0 to 1000'.format([self])"
	Monthly *int32 `json:"monthly,omitempty"`
	// MinKeep is how many complete backups are kept whatever the other rules say; 1
	// when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 1000",messageExpression="'retention.minKeep is %s; allowed is 1 to 1000'.format([self])"
	MinKeep *int32 `json:"minKeep,omitempty"`
}

// MetaStoreBackupScheduleStatus is what the operator did by the clock.
type MetaStoreBackupScheduleStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// LastScheduleTime is when the last backup that was made was due.
	//
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`

	// NextScheduleTime is when the next is due; absent while suspended.
	//
	// +optional
	NextScheduleTime *metav1.Time `json:"nextScheduleTime,omitempty"`

	// LastSuccessfulTime is when the last one became Complete.
	//
	// +optional
	LastSuccessfulTime *metav1.Time `json:"lastSuccessfulTime,omitempty"`

	// LastSuccessfulBackup is its name.
	//
	// +optional
	LastSuccessfulBackup string `json:"lastSuccessfulBackup,omitempty"`

	// Active are the backups that go on.
	//
	// +optional
	// +listType=atomic
	Active []string `json:"active,omitempty"`

	// BackupNow is the value of the annotation metastore.io/backup-now that was last
	// acted on.
	//
	// +optional
	BackupNow string `json:"backupNow,omitempty"`

	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

package controller

import (
	"github.com/prometheus/client_golang/prometheus"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
)

// What the operator tells of backups, with the labels namespace and cluster. The
// gauges follow the cluster's status, so that they outlive the operator.
var (
	backupsEnded = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "metastore_operator_backups_total",
		Help: "Backups that have ended, by their outcome: Complete or Failed.",
	}, []string{"namespace", "cluster", "outcome"})
	backupSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "metastore_operator_backup_duration_seconds",
		Help:    "How long complete backups took from their first attempt.",
		Buckets: prometheus.ExponentialBuckets(1, 4, 8), // to 4.5 hours
	}, []string{"namespace", "cluster"})
	lastBackupTime = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "metastore_operator_last_backup_timestamp_seconds",
		Help: "When the newest complete backup of a cluster became so, in seconds since 1970; absent while there is none.",
	}, []string{"namespace", "cluster"})
	lastBackupBytes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "metastore_operator_last_backup_size_bytes",
		Help: "Size of what the newest complete backup of a cluster has stored; absent while there is none.",
	}, []string{"namespace", "cluster"})
)

// countBackup counts one that has just ended.
func countBackup(b *v1alpha1.MetaStoreBackup, o backup.Outcome) {
	ns, cluster := b.Namespace, b.Spec.ClusterRef.Name
	backupsEnded.WithLabelValues(ns, cluster, string(o)).Inc()
	if s := b.Status; o == backup.Complete && s.StartedAt != nil && s.CompletedAt != nil {
		backupSeconds.WithLabelValues(ns, cluster).Observe(s.CompletedAt.Sub(s.StartedAt.Time).Seconds())
	}
}

package controller

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
)

// What the operator tells of its own domain. Each has the labels namespace and
// cluster; the others have few values. The time in a state is time() less the
// time that it began.
var (
	steps = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "metastore_operator_steps_total",
		Help: "Steps taken, by the operation that they belong to, their action, and whether they failed.",
	}, []string{"namespace", "cluster", "operation", "action", "failed"})
	repairs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "metastore_operator_repairs_total",
		Help: "Members that were given up to be replaced, by reason.",
	}, []string{"namespace", "cluster", "reason"})
	rolledPods = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "metastore_operator_rolled_pods_total",
		Help: "Pods that were restarted for another template.",
	}, []string{"namespace", "cluster"})
	conditionSince = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "metastore_operator_condition_since_timestamp_seconds",
		Help: "When a condition of a cluster took its status, in seconds since 1970.",
	}, []string{"namespace", "cluster", "condition", "status"})
	operationSince = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "metastore_operator_operation_since_timestamp_seconds",
		Help: "When the present step of the running operation began, in seconds since 1970; absent while there is none.",
	}, []string{"namespace", "cluster", "operation"})
)

type perCluster interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

var perClusterMetrics = []perCluster{
	certificateEnds, steps, repairs, rolledPods, conditionSince, operationSince,
	backupsEnded, backupSeconds, lastBackupTime, lastBackupBytes,
}

func init() {
	for _, m := range perClusterMetrics {
		metrics.Registry.MustRegister(m)
	}
}

// forgetMetrics drops the series of a cluster that is gone.
func forgetMetrics(namespace, name string) {
	for _, m := range perClusterMetrics {
		m.DeletePartialMatch(prometheus.Labels{"namespace": namespace, "cluster": name})
	}
}

// countStep counts a step that was taken or failed. One that met a world that has
// moved on is neither.
func (o *observation) countStep(d plan.Decision, err error) {
	if passing(err) {
		return
	}
	ns, name, failed := o.cluster.Namespace, o.cluster.Name, "false"
	if err != nil {
		failed = "true"
	}
	steps.WithLabelValues(ns, name, string(d.Operation), string(d.Step.Action), failed).Inc()
	switch {
	case err != nil:
	case d.Step.Action == plan.Remove && slices.Contains([]v1alpha1.OperationType{v1alpha1.OperationReplace, v1alpha1.OperationRecover}, d.Operation):
		repairs.WithLabelValues(ns, name, d.Reason).Inc()
	case d.Step.Action == plan.DeletePod && d.Operation == v1alpha1.OperationRoll:
		rolledPods.WithLabelValues(ns, name).Inc()
	}
}

// tellState sets since when the cluster is as its status says. A condition that
// holds is never missing in between: somebody may read just then.
func (o *observation) tellState(s *v1alpha1.MetaStoreClusterStatus) {
	o.tellBackups(s)
	ns, name := o.cluster.Namespace, o.cluster.Name
	for _, t := range []string{
		v1alpha1.ConditionStalled, v1alpha1.ConditionReconciling, v1alpha1.ConditionTLSReady, v1alpha1.ConditionAuthReady, v1alpha1.ConditionBackupCurrent,
	} {
		if condition(s.Conditions, t) == nil {
			conditionSince.DeletePartialMatch(prometheus.Labels{"namespace": ns, "cluster": name, "condition": t})
		}
	}
	for _, c := range s.Conditions {
		for _, other := range []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown} {
			if other != c.Status {
				conditionSince.DeleteLabelValues(ns, name, c.Type, string(other))
			}
		}
		conditionSince.WithLabelValues(ns, name, c.Type, string(c.Status)).Set(float64(c.LastTransitionTime.Unix()))
	}
	operationSince.DeletePartialMatch(prometheus.Labels{"namespace": ns, "cluster": name})
	if op := s.Operation; op != nil && op.StartedAt != nil {
		operationSince.WithLabelValues(ns, name, string(op.Type)).Set(float64(op.StartedAt.Unix()))
	}
}

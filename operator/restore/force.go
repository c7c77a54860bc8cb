package restore

import "metastore.io/metastore/api/v1alpha1"

// force gives the word that the cluster's annotation gives, and follows what the
// cluster makes of it.
func (w *World) force() Decision {
	const step = v1alpha1.RestoreStepRecover
	c := w.Cluster
	switch {
	case c == nil:
		return w.wait(v1alpha1.RestoreStepPrepare, w.Limits.MissingTimeout, "ClusterMissing", "the cluster does not exist yet")
	case c.Recovering:
		return w.wait(step, w.Limits.ServeTimeout, "Recovering", "the cluster begins anew: %s", c.Message)
	case c.Available && w.Step != step:
		return failed(step, Failure{"QuorumServes", "a quorum of the cluster serves; there is nothing to begin anew"})
	case c.Available && c.Recovered:
		return Decision{Step: step, Outcome: Complete, Reason: "Recovered", Message: "the cluster has begun anew and serves"}
	case c.Available:
		return Decision{Step: step, Outcome: Complete, Reason: "QuorumServes", Message: "a quorum of the cluster serves again"}
	case c.Paused:
		return w.wait(step, 0, "Paused", "the cluster is paused")
	case !c.Confirmed && w.Step != step: // once
		return act(Allow, step, "Confirmed", "the cluster may begin anew from the best member that is left")
	}
	return w.wait(step, w.Limits.ServeTimeout, "Recovering", "the cluster looks for a member to begin anew from: %s", c.Message)
}

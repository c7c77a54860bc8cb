package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/pki"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

const (
	reasonExpiring = "CertificateExpiring"
	reasonExpired  = "CertificateExpired"
)

var certificateEnds = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "metastore_operator_certificate_not_after_timestamp_seconds",
	Help: "When a certificate of a cluster ends, in seconds since 1970. The certificate is client or peer (what members show), operator, client-ca or peer-ca.",
}, []string{"namespace", "cluster", "certificate"})

// tlsStatus is what the status tells of TLS; nil without TLS.
func (o *observation) tlsStatus() *v1alpha1.TLSStatus {
	if o.cluster.Spec.TLS == nil && !o.anyTLS() {
		return nil
	}
	s := &v1alpha1.TLSStatus{Modes: resources.Modes(nil), Certificates: o.tls.certificates()}
	if o.set != nil {
		s.Modes = resources.Modes(o.set.Spec.Template.Annotations)
	}
	return s
}

// anyTLS says that a pod or the template has TLS.
func (o *observation) anyTLS() bool {
	return slices.ContainsFunc(o.modesInUse(), func(m v1alpha1.TLSModes) bool { return m != resources.Modes(nil) })
}

// texts are the certificates in use, by name.
func (t *tlsFacts) texts() map[string][]byte {
	texts := map[string][]byte{"operator": t.shown.Cert}
	for _, e := range bothEnds {
		texts[string(e)] = t.ends[e].Cert
		if t.authority != nil {
			texts[string(e)+"-ca"] = t.authority.Data[e.AuthorityKey()]
		}
	}
	maps.DeleteFunc(texts, func(_ string, text []byte) bool { return pki.NotAfter(text).IsZero() })
	return texts
}

// certificates are those in use, by name.
func (t *tlsFacts) certificates() []v1alpha1.CertificateStatus {
	var out []v1alpha1.CertificateStatus
	for name, text := range t.texts() {
		out = append(out, v1alpha1.CertificateStatus{Name: name, NotAfter: metav1.NewTime(pki.NotAfter(text))})
	}
	slices.SortFunc(out, func(a, b v1alpha1.CertificateStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// soonest is the certificate that ends first of those that are over or should have
// been renewed by now; the name is empty when there is none.
func (t *tlsFacts) soonest(now time.Time) v1alpha1.CertificateStatus {
	var out v1alpha1.CertificateStatus
	texts := t.texts()
	for _, c := range t.certificates() {
		if pki.Ending(texts[c.Name], now) && (out.Name == "" || c.NotAfter.Before(&out.NotAfter)) {
			out = c
		}
	}
	return out
}

// tellCertificates sets the metrics, and sends a warning when a certificate comes
// near its end and when it is over.
func (r *Reconciler) tellCertificates(o *observation, updated *v1alpha1.MetaStoreCluster) {
	gone := map[string]bool{"operator": true}
	for _, e := range bothEnds {
		gone[string(e)], gone[string(e)+"-ca"] = true, true
	}
	if updated.Status.TLS != nil {
		for _, c := range updated.Status.TLS.Certificates {
			certificateEnds.WithLabelValues(o.cluster.Namespace, o.cluster.Name, c.Name).Set(float64(c.NotAfter.Unix()))
			delete(gone, c.Name)
		}
	}
	for name := range gone {
		certificateEnds.DeleteLabelValues(o.cluster.Namespace, o.cluster.Name, name)
	}
	was := condition(o.cluster.Status.Conditions, v1alpha1.ConditionTLSReady)
	is := condition(updated.Status.Conditions, v1alpha1.ConditionTLSReady)
	if is != nil && (is.Reason == reasonExpiring || is.Reason == reasonExpired) && (was == nil || was.Reason != is.Reason) {
		r.Events.Eventf(o.cluster, nil, corev1.EventTypeWarning, is.Reason, "Certificates", "%s", is.Message)
	}
}

// tlsReady judges the certificates first, then whether members accept what they
// are to. ok is false without TLS.
func (o *observation) tlsReady() (v verdict, ok bool) {
	if o.tlsStatus() == nil {
		return verdict{}, false
	}
	wanted, soonest := resources.Modes(nil), o.tls.soonest(o.now)
	if m := wantedModes(o.cluster); m.Client != "" {
		wanted.Client = m.Client
	}
	if m := wantedModes(o.cluster); m.Peer != "" {
		wanted.Peer = m.Peer
	}
	end := soonest.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case soonest.Name != "" && !o.now.Before(soonest.NotAfter.Time):
		return no(reasonExpired, fmt.Sprintf("the certificate %q ended at %s%s", soonest.Name, end, o.because())), true
	case o.tls.trouble != "":
		return no(plan.ReasonCertificates, o.tls.trouble), true
	case o.set == nil || slices.ContainsFunc(o.modesInUse(), func(m v1alpha1.TLSModes) bool { return m != wanted }):
		return no("ModesDiffer", fmt.Sprintf("members are on their way to client %s and peer %s", wanted.Client, wanted.Peer)), true
	case soonest.Name != "":
		return yes(reasonExpiring, fmt.Sprintf("the certificate %q ends at %s and has not been renewed", soonest.Name, end)), true
	}
	return yes("CertificatesHold", "members accept client "+string(wanted.Client)+" and peer "+string(wanted.Peer)), true
}

func (o *observation) because() string {
	if o.tls.trouble == "" {
		return ""
	}
	return ": " + o.tls.trouble
}

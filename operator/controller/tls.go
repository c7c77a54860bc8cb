package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/pki"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// annotationChanged, on the Secret that members mount, is followed by an end's
// name: when its certificates were last written.
const annotationChanged = "metastore.io/changed-"

// tlsFacts are what was observed of TLS, and the Secrets that follow from it.
//
// Members mount one Secret of the operator's own, whatever the source of the
// certificates: what a user writes is judged before it gets
// there, and a change of authorities takes its time (pki.Publish).
type tlsFacts struct {
	// published is the Secret that members mount; nil while there is none.
	published *corev1.Secret
	// authority is the Secret with the operator's own authorities, likewise.
	authority *corev1.Secret
	// ends are what members have at each end.
	ends map[resources.End]pki.Published
	// trusted are authorities that the operator trusts besides those of ends.
	trusted []byte
	// shown is what the operator shows to members; empty when it has nothing.
	shown pki.Pair
	// differ says that what members mount is to be written.
	differ bool
	complaints
}

// wantsTLS says whether there is anything to look at: clusters without TLS cost
// no call.
func (o *observation) wantsTLS() bool {
	if o.cluster.Spec.TLS != nil || o.cluster.Status.TLS != nil {
		return true
	}
	return o.set != nil && resources.Modes(o.set.Spec.Template.Annotations) != resources.Modes(nil)
}

// wantedModes are the spec's.
func wantedModes(c *v1alpha1.MetaStoreCluster) v1alpha1.TLSModes {
	var m v1alpha1.TLSModes
	if t := c.Spec.TLS; t != nil && t.Client != nil {
		m.Client = t.Client.Mode
	}
	if t := c.Spec.TLS; t != nil && t.Peer != nil {
		m.Peer = t.Peer.Mode
	}
	return m
}

// sourceOf is where the certificates of an end come from; nil while it is off:
// what members have then stays as it is until the last has left it behind.
func sourceOf(c *v1alpha1.MetaStoreCluster, e resources.End) *v1alpha1.TLSSource {
	t := c.Spec.TLS
	switch {
	case t == nil:
		return nil
	case e == resources.EndClient && t.Client != nil && t.Client.Mode != v1alpha1.TLSDisabled:
		return t.Client.Source
	case e == resources.EndPeer && t.Peer != nil && t.Peer.Mode != v1alpha1.TLSDisabled:
		return t.Peer.Source
	}
	return nil
}

var bothEnds = []resources.End{resources.EndClient, resources.EndPeer}

// observeTLS reads the Secrets and notes those that are to be written. Secrets
// are read from the API server: no cache holds keys.
func (r *Reconciler) observeTLS(ctx context.Context, o *observation) error {
	o.tls.ends = map[resources.End]pki.Published{}
	if !o.wantsTLS() {
		return nil
	}
	t := &o.tls
	var ok bool
	var err error
	if t.published, ok, err = r.ownSecret(ctx, o, resources.CertificatesName(o.cluster.Name), &t.complaints); !ok || err != nil {
		return err
	}
	for _, e := range bothEnds {
		t.ends[e] = publishedOf(t.published, e)
	}
	next := maps.Clone(t.ends)
	for _, e := range bothEnds {
		source, err := r.observeSource(ctx, o, e)
		if err != nil {
			return err
		}
		if source == nil {
			if !o.uses(e) && !t.ends[e].Empty() {
				// Nobody renews it any more, and nobody needs it.
				t.ends[e], next[e], t.differ = pki.Published{}, pki.Published{}, true
			}
			continue
		}
		if p, changed := pki.Publish(t.ends[e], *source, r.Certificates, o.now); changed {
			next[e] = p
			t.differ = true
		}
		if e == resources.EndClient {
			t.trusted = source.CA
		}
	}
	if err := r.observeShown(ctx, o); err != nil {
		return err
	}
	if t.differ {
		o.wantSecret(r.publishedSecret(o, next))
	}
	return nil
}

func (r *Reconciler) secret(ctx context.Context, o *observation, name string) (*corev1.Secret, error) {
	return fetch(ctx, r.Live, o.cluster, name, &corev1.Secret{})
}

// ownSecret is a Secret that the operator writes; nil when there is none yet. ok
// is false, with a complaint, when somebody else's has its name: taken over, that
// one would be deleted together with the cluster.
func (r *Reconciler) ownSecret(ctx context.Context, o *observation, name string, to *complaints) (s *corev1.Secret, ok bool, err error) {
	s, err = r.secret(ctx, o, name)
	if s == nil || err != nil {
		return nil, err == nil, err
	}
	owner := metav1.GetControllerOf(s)
	if owner != nil && owner.UID == o.cluster.UID || owner == nil && s.Labels[labelManagedBy] == resources.FieldManager {
		return s, true, nil
	}
	to.complain("Secret %s exists and is not the operator's, which needs that name for this cluster; keep what is in it under another name, and delete it", name)
	return nil, false, nil
}

func publishedOf(s *corev1.Secret, e resources.End) pki.Published {
	if s == nil {
		return pki.Published{}
	}
	p := pki.Published{Pair: pki.Pair{CA: s.Data[e.AuthorityKey()], Cert: s.Data[e.CertificateKey()], Key: s.Data[e.PrivateKey()]}}
	if at, err := time.Parse(time.RFC3339, s.Annotations[annotationChanged+string(e)]); err == nil {
		p.Changed = at
	}
	return p
}

func (r *Reconciler) publishedSecret(o *observation, ends map[resources.End]pki.Published) *corev1.Secret {
	data, annotations := map[string][]byte{}, map[string]string{}
	for e, p := range ends {
		if p.Empty() {
			continue
		}
		data[e.AuthorityKey()], data[e.CertificateKey()], data[e.PrivateKey()] = p.CA, p.Cert, p.Key
		annotations[annotationChanged+string(e)] = p.Changed.UTC().Format(time.RFC3339)
	}
	s := r.builder(o).Secret(resources.CertificatesName(o.cluster.Name), corev1.SecretTypeOpaque, data, versionOf(o.tls.published))
	s.Annotations = annotations
	return s
}

func versionOf(s *corev1.Secret) string {
	if s == nil {
		return ""
	}
	return s.ResourceVersion
}

// wantSecret notes a Secret that is to be written.
func (o *observation) wantSecret(s *corev1.Secret) { o.wantObject("Secret/"+s.Name, s) }

// complaints hold the first sentence about what is wrong; empty when nothing is.
type complaints struct{ trouble string }

func (c *complaints) complain(format string, args ...any) {
	if c.trouble == "" {
		c.trouble = fmt.Sprintf(format, args...)
	}
}

// uses says that an end has TLS in a pod or in the template, or is to have it.
func (o *observation) uses(e resources.End) bool {
	of := func(m v1alpha1.TLSModes) bool {
		mode := m.Client
		if e == resources.EndPeer {
			mode = m.Peer
		}
		return mode != "" && mode != v1alpha1.TLSDisabled
	}
	return of(wantedModes(o.cluster)) || slices.ContainsFunc(o.modesInUse(), of)
}

// observeSource gives what a source has for an end; nil while it has nothing that
// could be used.
func (r *Reconciler) observeSource(ctx context.Context, o *observation, e resources.End) (*pki.Pair, error) {
	source := sourceOf(o.cluster, e)
	switch {
	case source == nil:
		return nil, nil
	case source.SelfSigned != nil:
		return r.selfSigned(ctx, o, e)
	case source.CertManager != nil:
		written, err := r.fromCertManager(ctx, o, e, source.CertManager)
		if written == nil || err != nil {
			return nil, err
		}
		return o.judged(written, e, fmt.Sprintf("Certificate %s", written.Name)), nil
	case source.SecretRef != nil:
		field := fmt.Sprintf("spec.tls.%s.source.secretRef", e)
		given, err := r.given(ctx, o, source.SecretRef, field, &o.tls.complaints)
		if given == nil || err != nil {
			return nil, err
		}
		return o.judged(given, e, field), nil
	}
	return nil, nil
}

// given is a Secret that the user names.
func (r *Reconciler) given(ctx context.Context, o *observation, ref *v1alpha1.SecretRef, field string, to *complaints) (*corev1.Secret, error) {
	s, err := r.secret(ctx, o, ref.Name)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		to.complain("%s names Secret %s, which does not exist; make it, or name another", field, ref.Name)
		return nil, nil
	case slices.Contains(ownSecrets(o.cluster), ref.Name):
		to.complain("%s names Secret %s, which the operator writes itself; name another", field, ref.Name)
		return nil, nil
	}
	return s, nil
}

// judged is what a Secret holds for an end, if members can use it.
func (o *observation) judged(s *corev1.Secret, e resources.End, field string) *pki.Pair {
	p := pairOf(s)
	var hosts []string
	for ordinal := range int(o.cluster.Spec.Replicas) {
		hosts = append(hosts, resources.MemberHost(o.cluster, ordinal))
	}
	if e == resources.EndClient {
		hosts = append(hosts, resources.ClientHost(o.cluster))
	}
	if err := pki.Judge(p, hosts, usages(e), o.now); err != nil {
		o.tls.complain("Secret %s of %s %v", s.Name, field, err)
		return nil
	}
	return &p
}

// usages are what the members' certificate of an end is good for.
func usages(e resources.End) []x509.ExtKeyUsage {
	if e == resources.EndPeer {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}

// pairOf is what a Secret of the type kubernetes.io/tls holds.
func pairOf(s *corev1.Secret) pki.Pair {
	if s == nil {
		return pki.Pair{}
	}
	return pki.Pair{CA: s.Data["ca.crt"], Cert: s.Data[corev1.TLSCertKey], Key: s.Data[corev1.TLSPrivateKeyKey]}
}

// secretData is the inverse of pairOf.
func secretData(p pki.Pair) map[string][]byte {
	return map[string][]byte{"ca.crt": p.CA, corev1.TLSCertKey: p.Cert, corev1.TLSPrivateKeyKey: p.Key}
}

// clientConfig is how the operator speaks TLS to members.
func (t *tlsFacts) clientConfig() (*tls.Config, error) {
	bundle := pki.Bundle(t.trusted, t.ends[resources.EndClient].CA)
	if len(bundle) == 0 {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !c.RootCAs.AppendCertsFromPEM(bundle) {
		return nil, errors.New("no authority in what members have")
	}
	if !t.shown.Empty() {
		pair, err := tls.X509KeyPair(t.shown.Cert, t.shown.Key)
		if err != nil {
			return nil, err // it was judged before
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// planTLS is what the planner hears of all this.
func (o *observation) planTLS() plan.TLS {
	return plan.TLS{
		Wanted: wantedModes(o.cluster), Trouble: o.tls.trouble,
		Client: !o.tls.ends[resources.EndClient].Empty(), Peer: !o.tls.ends[resources.EndPeer].Empty(),
	}
}

// modesOf are the TLS modes of the pod of an ordinal, or of the pod to come.
func (o *observation) modesOf(ordinal int) v1alpha1.TLSModes {
	switch p, ok := o.pods[ordinal]; {
	case ok:
		return resources.Modes(p.Annotations)
	case o.set != nil:
		return resources.Modes(o.set.Spec.Template.Annotations)
	}
	return resources.Modes(nil)
}

// clientURL is where the operator reaches a member: with TLS wherever that is
// spoken. A client that asks several members speaks to all in one way, so those
// that accept both are asked as the others are.
func (o *observation) clientURL(ordinal int) string {
	mode := o.modesOf(ordinal).Client
	secure := mode == v1alpha1.TLSRequired
	if mode == v1alpha1.TLSPermissive {
		secure = true
		for other := range o.pods {
			secure = secure && o.modesOf(other).Client != v1alpha1.TLSDisabled
		}
	}
	return resources.ClientURL(o.cluster, ordinal, secure)
}

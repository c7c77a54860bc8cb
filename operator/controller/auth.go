package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/member"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

const (
	// passwordKey, in the user's Secret and in the operator's own, is root's
	// password; nextKey is the one that it is about to get.
	passwordKey = corev1.BasicAuthPasswordKey
	nextKey     = "next"
)

// authFacts are what was observed of root's password.
//
// The operator keeps a copy of the password that members know: when the user's
// Secret changes, members want to hear the one of before. The one to come is
// written beside it first, so that an operator that stops anywhere still has the
// one that members know.
type authFacts struct {
	complaints
	// wanted is the user's; empty when there is none that could be used.
	wanted string
	// kept is the operator's Secret; nil while there is none, or none is needed.
	kept *corev1.Secret
	// broken says that the operator's Secret cannot be had.
	broken bool
}

func (a *authFacts) known() string { return keyOf(a.kept, passwordKey) }
func (a *authFacts) next() string  { return keyOf(a.kept, nextKey) }

func keyOf(s *corev1.Secret, key string) string {
	if s == nil {
		return ""
	}
	return string(s.Data[key])
}

// observeAuth reads the Secrets. A cluster that never had to do with users costs
// no call.
func (r *Reconciler) observeAuth(ctx context.Context, o *observation) error {
	c, a := o.cluster, &o.auth
	if c.Spec.Auth == nil && c.Status.Auth == nil {
		return nil
	}
	var ok bool
	var err error
	if a.kept, ok, err = r.ownSecret(ctx, o, resources.CredentialsName(c.Name), &a.complaints); err != nil {
		return err
	}
	a.broken = !ok
	if c.Spec.Auth == nil {
		return nil
	}
	const field = "spec.auth.rootCredentialsSecretRef"
	s, err := r.given(ctx, o, &c.Spec.Auth.RootCredentialsSecretRef, field, &a.complaints)
	if s == nil || err != nil {
		return err
	}
	switch user := keyOf(s, corev1.BasicAuthUsernameKey); {
	case user != "" && user != "root":
		a.complain("Secret %s of %s has the username %q; it is to be root, or left out", s.Name, field, user)
	case keyOf(s, passwordKey) == "":
		a.complain("Secret %s of %s has no password; add one under the key password", s.Name, field)
	default:
		a.wanted = keyOf(s, passwordKey)
	}
	return nil
}

// credentials are what the operator tells members of itself.
func (o *observation) credentials() (member.Credentials, error) {
	config, err := o.tls.clientConfig()
	if err != nil {
		return member.Credentials{}, fmt.Errorf("read the certificates for members: %w", err)
	}
	out := member.Credentials{TLS: config, Cluster: fmt.Sprintf("%s/%s/%s", o.cluster.Namespace, o.cluster.Name, o.cluster.UID)}
	for _, password := range []string{o.auth.wanted, o.auth.next(), o.auth.known()} {
		if password != "" && !slices.Contains(out.Root, password) {
			out.Root = append(out.Root, password)
		}
	}
	return out, nil
}

// keepPassword notes what the operator's Secret is to hold, from what members
// accept.
func (r *Reconciler) keepPassword(o *observation) {
	a, members := &o.auth, o.view.Auth
	if a.broken {
		return
	}
	known, next := a.known(), a.next()
	switch wanted := a.wanted; {
	case o.cluster.Spec.Auth == nil:
		if members.Known && !members.Enabled {
			known, next = "", ""
		}
	case wanted == "":
	case members.Password == wanted, members.Known && !members.Enabled, known == "":
		known, next = wanted, ""
	case members.Password != "":
		known, next = members.Password, wanted
	}
	if known == a.known() && next == a.next() {
		return
	}
	data := map[string][]byte{}
	for key, text := range map[string]string{passwordKey: known, nextKey: next} {
		if text != "" {
			data[key] = []byte(text)
		}
	}
	o.wantSecret(r.builder(o).Secret(resources.CredentialsName(o.cluster.Name), corev1.SecretTypeOpaque, data, versionOf(a.kept)))
}

// planAuth is what the planner hears of it.
func (o *observation) planAuth() plan.Auth {
	a, members := &o.auth, o.view.Auth
	out := plan.Auth{
		Wanted: o.cluster.Spec.Auth != nil, Ready: a.wanted != "" && !a.broken, Kept: a.known() != "",
		Known: members.Known, Enabled: members.Enabled,
		Accepted: members.Password != "", Current: members.Password != "" && members.Password == a.wanted,
		Reason: plan.ReasonCredentials, Trouble: a.trouble,
	}
	if members.Enabled && !out.Accepted {
		out.Reason, out.Trouble = plan.ReasonRefused, o.refusal()
	}
	return out
}

// refusal says why members let nobody in, and what to do.
func (o *observation) refusal() string {
	if o.cluster.Spec.Auth == nil {
		return "members check users, and the operator has no password of root; name a Secret with it in spec.auth.rootCredentialsSecretRef"
	}
	name := o.cluster.Spec.Auth.RootCredentialsSecretRef.Name
	if o.auth.wanted == "" {
		return fmt.Sprintf("members accept no password that the operator knows: %s", strings.TrimSuffix(o.auth.trouble, "."))
	}
	return fmt.Sprintf("members do not accept the password of Secret %s for root; write the one that root has into it, it can be changed from there when the operator is in", name)
}

// authStatus is what the status tells of users; nil where nobody asks for them.
func (o *observation) authStatus() *v1alpha1.AuthStatus {
	members, old := o.view.Auth, o.cluster.Status.Auth
	switch {
	case members.Known:
		if o.cluster.Spec.Auth == nil && !members.Enabled && o.auth.known() == "" {
			return nil
		}
		return &v1alpha1.AuthStatus{Enabled: members.Enabled}
	case old != nil:
		return old.DeepCopy()
	case o.cluster.Spec.Auth != nil:
		return &v1alpha1.AuthStatus{}
	}
	return nil
}

// authReady judges users; ok is false where nobody asks for them.
func (o *observation) authReady() (v verdict, ok bool) {
	a := o.world.Auth
	switch {
	case o.authStatus() == nil:
		return verdict{}, false
	case a.Trouble != "":
		return no(a.Reason, a.Trouble), true
	case !a.Known:
		return verdict{"Unknown", plan.ReasonUnreachable, "no quorum of the members says whether users are checked"}, true
	case a.Wanted != a.Enabled:
		return no("AuthDiffers", fmt.Sprintf("members check users: %t", a.Enabled)), true
	case a.Wanted && !a.Current:
		return no("PasswordDiffers", "root does not have the password of the Secret yet"), true
	case !a.Wanted:
		return no("AuthDiffers", "what was kept of users is being cleared away"), true
	}
	return yes("UsersChecked", "members check users, and root has the password of the Secret"), true
}

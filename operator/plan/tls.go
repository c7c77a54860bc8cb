package plan

import "metastore.io/metastore/api/v1alpha1"

// TLS is what there is of it, and what is wanted.
type TLS struct {
	// Wanted are the spec's modes.
	Wanted v1alpha1.TLSModes
	// Client and Peer say that the certificates for that port lie ready for pods.
	Client, Peer bool
	// Trouble is why certificates are missing or cannot be renewed, in one
	// sentence that says what to do; empty when there is none.
	Trouble string
}

// NextModes are the modes that the pod template is to have now. From Disabled to
// Required and back there is no step without Permissive, and one leaves that only
// when nobody needs it any more:
//
//   - clients: when no pod is left that is on the other side of Permissive;
//   - peers: also when every member's peer URL has the scheme that stays.
//
// Invariant: a member's peer URL is one that its pod accepts and that every other
// pod can dial, in every mixture of pods that a roll goes through.
func NextModes(w *World) v1alpha1.TLSModes {
	from := w.modes()
	return v1alpha1.TLSModes{
		Client: nextMode(from.Client, w.TLS.Wanted.Client, w.TLS.Client, w.noneHas(clientMode, w.TLS.Wanted.Client)),
		Peer: nextMode(from.Peer, w.TLS.Wanted.Peer, w.TLS.Peer,
			w.noneHas(peerMode, w.TLS.Wanted.Peer) && w.urlsHave(w.TLS.Wanted.Peer)),
	}
}

func clientMode(m v1alpha1.TLSModes) v1alpha1.TLSMode { return either(m.Client) }
func peerMode(m v1alpha1.TLSModes) v1alpha1.TLSMode   { return either(m.Peer) }

// either names the mode that an empty one stands for.
func either(m v1alpha1.TLSMode) v1alpha1.TLSMode {
	if m == "" {
		return v1alpha1.TLSDisabled
	}
	return m
}

// nextMode goes one step from a mode to the wanted one: to Permissive as soon as
// there are certificates, on from there when it is left by all.
func nextMode(from, wanted v1alpha1.TLSMode, certificates, left bool) v1alpha1.TLSMode {
	from, wanted = either(from), either(wanted)
	switch {
	case from == wanted:
		return from
	case wanted != v1alpha1.TLSDisabled && !certificates:
		return from
	case from != v1alpha1.TLSPermissive:
		return v1alpha1.TLSPermissive
	case left:
		return wanted
	}
	return from
}

// modes are those that the next step starts from. A cluster that has never
// served starts as it is wanted; a set that has to be made anew accepts both
// where its pods, or volumes whose members have URLs of old, may need it.
func (w *World) modes() v1alpha1.TLSModes {
	if w.Set != nil {
		return w.Set.Modes
	}
	if !w.Bootstrapped {
		return w.TLS.Wanted
	}
	if len(w.Pods) == 0 {
		return v1alpha1.TLSModes{Client: w.TLS.Wanted.Client, Peer: careful(w.TLS.Wanted.Peer)}
	}
	out := w.Pods[sorted(w.Pods)[0]].Modes
	for _, p := range w.Pods {
		if either(p.Modes.Client) != either(out.Client) {
			out.Client = v1alpha1.TLSPermissive
		}
		if either(p.Modes.Peer) != either(out.Peer) {
			out.Peer = v1alpha1.TLSPermissive
		}
	}
	return out
}

// heirsNeedTLS refuses to bring members back without TLS that know each other by
// peer URLs with it: none could reach another, and a change of the URLs needs a
// quorum.
func (w *World) heirsNeedTLS() *Decision {
	if len(w.Pods) > 0 || either(w.TLS.Wanted.Peer) != v1alpha1.TLSDisabled {
		return nil
	}
	for _, ordinal := range sorted(w.Volumes) {
		if v := w.Volumes[ordinal]; v.Member != 0 && v.PeerTLS && !v.Terminating {
			return w.waitSinceReported(setup, -1, 0, ReasonPeerTLSNeeded,
				"the volumes hold members that reach each other with TLS, as that of member %d says; set spec.tls.peer to mode Permissive with a source, it can be turned off when they serve", ordinal)
		}
	}
	return nil
}

func careful(m v1alpha1.TLSMode) v1alpha1.TLSMode {
	if either(m) == v1alpha1.TLSDisabled {
		return m
	}
	return v1alpha1.TLSPermissive
}

// noneHas says that no pod runs in the mode on the other side of Permissive than
// the wanted one.
func (w *World) noneHas(of func(v1alpha1.TLSModes) v1alpha1.TLSMode, wanted v1alpha1.TLSMode) bool {
	other := v1alpha1.TLSDisabled
	if either(wanted) == v1alpha1.TLSDisabled {
		other = v1alpha1.TLSRequired
	}
	for _, p := range w.Pods {
		if of(p.Modes) == other {
			return false
		}
	}
	return true
}

// urlsHave says that every member's peer URL, with TLS or without, is one that
// the wanted mode accepts.
func (w *World) urlsHave(wanted v1alpha1.TLSMode) bool {
	if !w.ListKnown {
		return false
	}
	for _, m := range w.Members {
		if m.Ordinal >= 0 && m.PeerTLS != (either(wanted) != v1alpha1.TLSDisabled) {
			return false
		}
	}
	return true
}

// PeerTLS says whether peer URLs are to have TLS now: as the set accepts, and
// while it accepts both as is wanted, once no pod is left that could not be
// reached or could not dial that way.
func PeerTLS(w *World) bool {
	mode := peerMode(w.modes())
	if mode != v1alpha1.TLSPermissive {
		return mode == v1alpha1.TLSRequired
	}
	wanted := either(w.TLS.Wanted.Peer) != v1alpha1.TLSDisabled
	if w.noneHas(peerMode, w.TLS.Wanted.Peer) {
		return wanted
	}
	return !wanted
}

// The two steps of a change of a peer URL: the URL, and what its volume says of it.
const (
	urlDiffers = "PeerURLDiffers"
	urlChanged = "PeerURLChanged"
)

// peerURLs changes the scheme of the members' peer URLs, one at a time. The next
// has to wait until the last has shown that it still follows the leader: were
// the certificates not good for it, one member would be cut off and not all.
func peerURLs(w *World) *Decision {
	tls := PeerTLS(w)
	next, lost := w.urlsToChange(tls)
	switch {
	case next == nil:
		return nil
	case lost != nil:
		return w.waitSinceReported(rolling, lost.Ordinal, w.Limits.StartTimeout, "PeerURLRefused",
			"member %d has lost its leader since its peer URL was changed; look at its log for refused handshakes, the other members keep their URLs", lost.Ordinal)
	}
	if last := w.Operation; last.Type == rolling && (last.Reason == urlDiffers || last.Reason == urlChanged) && w.Now.Before(last.StartedAt.Add(w.Limits.PeerURLPause)) {
		return wait(rolling, last.Ordinal, last.StartedAt.Add(w.Limits.PeerURLPause), last.Reason, "the new peer URL of member %d is being tried", last.Ordinal)
	}
	s := step(UpdatePeerURL, next.Ordinal)
	s.Member, s.PeerTLS = next.ID, tls
	scheme := map[bool]string{true: "https", false: "http"}[tls]
	return act(rolling, next.Ordinal, s, urlDiffers, "every member accepts %s from others; the peer URL of member %d is changed to it", scheme, next.Ordinal)
}

// urlsToChange is the next member whose peer URL has the other scheme, and one
// with the right scheme that has lost its leader.
func (w *World) urlsToChange(tls bool) (next, lost *Member) {
	for _, m := range w.Members {
		switch {
		case m.Ordinal < 0 || m.Learner && !m.Started:
		case m.PeerTLS == tls && m.Leaderless:
			lost = &m
		case m.PeerTLS != tls && (next == nil || m.Ordinal < next.Ordinal):
			next = &m
		}
	}
	return next, lost
}

// certificates tells what keeps them from being as they should; everything else
// goes on with those there are.
func certificates(w *World, blocked *[]Blocked) *verdict {
	if w.TLS.Trouble != "" {
		*blocked = append(*blocked, Blocked{Reason: ReasonCertificates, Message: w.TLS.Trouble})
	}
	return nil
}

// awaitCertificates keeps a cluster from being begun without the TLS that it is
// to have.
func (w *World) awaitCertificates() *Decision {
	needs := either(w.TLS.Wanted.Client) != v1alpha1.TLSDisabled && !w.TLS.Client ||
		either(w.TLS.Wanted.Peer) != v1alpha1.TLSDisabled && !w.TLS.Peer
	switch {
	case !needs:
		return nil
	case w.TLS.Trouble != "":
		return w.waitSinceReported(setup, -1, 0, ReasonCertificates, "%s", w.TLS.Trouble)
	}
	return w.waitSinceReported(setup, -1, w.Limits.ObjectTimeout, ReasonCertificates, "the certificates are not there yet")
}

package plan

import "slices"

// Entry is the part of a member's start-up settings that depends on the
// membership.
type Entry struct {
	Ordinal int
	// New tells the member to begin a new cluster. Invariant: only ever true for
	// ordinal 0, and only before the cluster has served for the first time; a
	// member that finds no data afterwards must not begin an empty one.
	New bool
	// Peers are the ordinals of all members, itself included, in order.
	Peers []int
	// Secure are those of them whose peer URL has TLS, in order.
	Secure []int
	// Force is the word of a recovery: the member forgets all others, once.
	Force string
}

// Entries gives the start-up settings of every member. ok is false when the
// membership is unknown: what is written already is then to be kept, and the
// entries returned are for the case that nothing is.
func Entries(w World) (entries []Entry, ok bool) {
	switch {
	case w.restored() && !w.ListKnown:
		return []Entry{w.alone(Entry{Ordinal: seedOrdinal})}, true
	case w.Recovery != nil && !w.ListKnown:
		s := w.Recovery.Ordinal
		return []Entry{w.alone(Entry{Ordinal: s, Force: w.Recovery.Word})}, true
	case !w.Bootstrapped:
		return []Entry{w.alone(Entry{Ordinal: 0, New: true})}, true
	case !w.ListKnown:
		peers := make([]int, w.adopted())
		for i := range peers {
			peers[i] = i
		}
		if PeerTLS(&w) {
			return among(peers, peers), false
		}
		return among(peers, nil), false
	}
	var peers, secure []int
	for _, m := range w.Members {
		if m.Ordinal < 0 {
			continue
		}
		peers = append(peers, m.Ordinal)
		if m.PeerTLS {
			secure = append(secure, m.Ordinal)
		}
	}
	slices.Sort(peers)
	slices.Sort(secure)
	return among(peers, secure), true
}

// alone makes a member the only one.
func (w *World) alone(e Entry) Entry {
	e.Peers = []int{e.Ordinal}
	if PeerTLS(w) {
		e.Secure = e.Peers
	}
	return e
}

func among(peers, secure []int) []Entry {
	entries := make([]Entry, 0, len(peers))
	for _, p := range peers {
		entries = append(entries, Entry{Ordinal: p, Peers: peers, Secure: secure})
	}
	return entries
}

// adopted is how many replicas the traces of the cluster show: its pods and the
// recorded volumes that are not on their way out. At least 1. Beside a seed that
// starts from restored data they are traces of another cluster.
func (w *World) adopted() int {
	n := 1
	if w.restored() {
		return n
	}
	if w.Set != nil {
		n = max(n, w.Set.Replicas)
	}
	for ordinal, p := range w.Pods {
		if !p.Terminating {
			n = max(n, ordinal+1)
		}
	}
	for ordinal, v := range w.Volumes {
		if !v.Terminating && v.Member != 0 {
			n = max(n, ordinal+1)
		}
	}
	return n
}

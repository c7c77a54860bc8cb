package member

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// peerPort is what the process of a pod accepts from peers.
type peerPort struct{ plain, secure bool }

// Speaks says what the process that is about to start in a pod accepts from
// peers; without a word it is plain connections only. One that accepts TLS can
// also dial it.
func (f *Fake) Speaks(pod string, plain, secure bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ports == nil {
		f.ports = map[string]peerPort{}
	}
	f.ports[pod] = peerPort{plain, secure}
}

// CutOff returns the moments in which a running member could not be reached by
// another at its peer URL.
func (f *Fake) CutOff() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.cutOff)
}

// UpdatePeerURL implements Access.
func (f *Fake) UpdatePeerURL(_ context.Context, _ []string, id ID, peerURL string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("update"); err != nil {
		return err
	}
	m := f.members[id]
	if m == nil {
		return ErrNotFound
	}
	m.PeerURLs = []string{peerURL}
	scheme, _, _ := strings.Cut(peerURL, ":")
	f.note("update %s %s", host(peerURL), scheme)
	f.connect()
	return nil
}

// connect looks whether all that run reach each other.
func (f *Fake) connect() {
	for _, m := range f.members {
		if !f.alive(m) {
			continue
		}
		secure := strings.HasPrefix(m.PeerURLs[0], "https:")
		for pod, id := range f.running {
			here := f.port(pod)
			if id == m.ID && (secure && !here.secure || !secure && !here.plain) || secure && !here.secure {
				f.cutOff = append(f.cutOff, fmt.Sprintf("%s cannot reach %s", pod, m.PeerURLs[0]))
			}
		}
	}
}

func (f *Fake) port(pod string) peerPort {
	if p, ok := f.ports[pod]; ok {
		return p
	}
	return peerPort{plain: true}
}

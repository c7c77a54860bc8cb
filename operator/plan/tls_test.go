package plan

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"metastore.io/metastore/api/v1alpha1"
)

var tlsModes = []v1alpha1.TLSMode{v1alpha1.TLSDisabled, v1alpha1.TLSPermissive, v1alpha1.TLSRequired}

// livingWorld is a cluster of three that does what the planner says, apart from
// TLS without any trouble. A template's revision is its modes, as a StatefulSet's
// is its content: going back makes an old revision the newest again.
type livingWorld struct{ World }

func newLivingWorld(modes v1alpha1.TLSModes) *livingWorld {
	w := &livingWorld{World{
		Now: epoch, Limits: DefaultLimits(), Bootstrapped: true, ListKnown: true,
		Spec: Spec{Replicas: 3}, Pods: map[int]Pod{}, TLS: TLS{Wanted: modes, Client: true, Peer: true},
		Set: &Set{Replicas: 3, Observed: true, Modes: modes, Revision: fmt.Sprint(modes)},
	}}
	for i := range 3 {
		w.Pods[i] = w.newPod()
		w.Members = append(w.Members, Member{
			ID: MemberID(i + 1), Ordinal: i, Started: true, Answers: true, Leader: i == 0, PeerTLS: modes.Peer == v1alpha1.TLSRequired,
		})
	}
	return w
}

func (w *livingWorld) newPod() Pod {
	return Pod{Revision: w.Set.Revision, Modes: w.Set.Modes, Ready: true, Running: true}
}

// live takes the planner's next step; false when there is none.
func (w *livingWorld) live(t *testing.T) bool {
	w.Now = w.Now.Add(w.Limits.PeerURLPause)
	w.Set.Differs = NextModes(&w.World) != w.Set.Modes
	d := Next(w.World)
	switch d.Step.Action {
	case Nothing:
		return d.Operation != none
	case ApplySet:
		w.Set.Modes = NextModes(&w.World)
		w.Set.Revision = fmt.Sprint(w.Set.Modes)
	case DeletePod:
		w.Pods[d.Step.Ordinal] = w.newPod()
	case UpdatePeerURL:
		w.Members[d.Step.Ordinal].PeerTLS = d.Step.PeerTLS
	case MoveLeader:
		for i := range w.Members {
			w.Members[i].Leader = w.Members[i].ID == d.Step.Member
		}
	default:
		t.Fatalf("unexpected step %s", d.Step)
	}
	return true
}

// check looks whether every member reaches every other, and whether there is one
// way for clients to reach them all.
func (w *livingWorld) check(t *testing.T) {
	t.Helper()
	plain, secure := true, true
	for _, m := range w.Members {
		pod := w.Pods[m.Ordinal]
		plain = plain && pod.Modes.Client != v1alpha1.TLSRequired
		secure = secure && pod.Modes.Client != v1alpha1.TLSDisabled
		refused := v1alpha1.TLSRequired
		if m.PeerTLS {
			refused = v1alpha1.TLSDisabled
		}
		if pod.Modes.Peer == refused {
			t.Fatalf("member %d does not accept its own peer URL, https %v, with %s", m.Ordinal, m.PeerTLS, pod.Modes.Peer)
		}
		for other, p := range w.Pods {
			if m.PeerTLS && p.Modes.Peer == v1alpha1.TLSDisabled {
				t.Fatalf("pod %d has no certificates to dial member %d", other, m.Ordinal)
			}
		}
	}
	if !plain && !secure {
		t.Fatal("no client reaches all members")
	}
}

// Every change of modes gets there, and so does every change of mind on the way,
// without a moment in which one member cannot reach another.
func TestModesChangeInSafeSteps(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			pick := func() v1alpha1.TLSModes {
				return v1alpha1.TLSModes{Client: tlsModes[random.IntN(3)], Peer: tlsModes[random.IntN(3)]}
			}
			w := newLivingWorld(v1alpha1.TLSModes{Client: v1alpha1.TLSDisabled, Peer: v1alpha1.TLSDisabled})
			for range 5 {
				w.TLS.Wanted = pick()
				for range random.IntN(30) {
					w.live(t)
					w.check(t)
				}
			}
			for range 100 {
				if !w.live(t) {
					break
				}
				w.check(t)
			}
			if w.Set.Modes != w.TLS.Wanted {
				t.Errorf("got to %v, wanted %v: %+v", w.Set.Modes, w.TLS.Wanted, Next(w.World))
			}
			for i, p := range w.Pods {
				if p.Modes != w.TLS.Wanted {
					t.Errorf("pod %d: %v", i, p.Modes)
				}
			}
		})
	}
}

// A set that was lost in the midst of a change comes back in a mode in which its
// pods, whichever they are, reach the new ones.
func TestModesOfALostSet(t *testing.T) {
	for _, c := range []struct {
		pods   []v1alpha1.TLSMode
		wanted v1alpha1.TLSMode
		want   v1alpha1.TLSMode
	}{
		{[]v1alpha1.TLSMode{v1alpha1.TLSRequired, v1alpha1.TLSPermissive}, v1alpha1.TLSRequired, v1alpha1.TLSPermissive},
		{[]v1alpha1.TLSMode{v1alpha1.TLSDisabled, v1alpha1.TLSPermissive}, v1alpha1.TLSRequired, v1alpha1.TLSPermissive},
		{[]v1alpha1.TLSMode{v1alpha1.TLSRequired, v1alpha1.TLSRequired}, v1alpha1.TLSRequired, v1alpha1.TLSRequired},
		{[]v1alpha1.TLSMode{v1alpha1.TLSRequired, v1alpha1.TLSRequired}, v1alpha1.TLSDisabled, v1alpha1.TLSPermissive},
		{nil, v1alpha1.TLSRequired, v1alpha1.TLSPermissive},
		{nil, v1alpha1.TLSDisabled, v1alpha1.TLSDisabled},
	} {
		w := World{Bootstrapped: true, Pods: map[int]Pod{}, TLS: TLS{Wanted: v1alpha1.TLSModes{Peer: c.wanted}, Peer: true}}
		for i, m := range c.pods {
			w.Pods[i] = Pod{Modes: v1alpha1.TLSModes{Peer: m}}
		}
		if got := NextModes(&w).Peer; got != c.want {
			t.Errorf("pods %v, wanted %s: %s, not %s", c.pods, c.wanted, got, c.want)
		}
	}
}

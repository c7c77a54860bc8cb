package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// FakeVersion is what faked members say that they run.
const FakeVersion = "1.4.0"

// Fake is a cluster in memory that keeps etcd's membership rules: one identity
// a member for ever, a quorum for every change, learners that must catch up
// before they vote. Tests drive its processes with Start, Stop and Wipe, and
// make its answers fail with Fail. Endpoints are told apart by their host's
// first label, which is the name of the pod.
type Fake struct {
	mu        sync.Mutex
	clusterID uint64
	nextID    ID
	committed uint64
	leader    ID
	members   map[ID]*Member
	// removed remembers identities that must never come back.
	removed map[ID]bool
	// disks says whose data lies on the volume of a pod, by volume identity.
	disks map[string]ID
	// running is the process of a pod: its member, 0 while it is not serving.
	running map[string]ID
	applied map[ID]uint64
	// forced is the word of the last recovery that a volume was started with.
	forced map[string]string
	// tokens are what volumes are marked with, before what restores have replaced
	// there.
	tokens  map[string]string
	before  map[string]*before
	lagging map[string]bool
	space   space
	fail    func(call string) error
	users   fakeUsers
	changes []string
	ports   map[string]peerPort
	cutOff  []string
}

var _ Access = (*Fake)(nil)

// Exit says how a faked process ended; 0 means that it runs.
type Exit int

// The server's exit codes that the fake gives.
const (
	Running     Exit = 0
	ExitOther   Exit = 1
	ExitEmpty   Exit = 3
	ExitForeign Exit = 4
)

// NewFake returns a cluster without members.
func NewFake() *Fake {
	return &Fake{
		clusterID: 0xc1, nextID: 0x10, committed: 5,
		members: map[ID]*Member{}, removed: map[ID]bool{}, disks: map[string]ID{},
		running: map[string]ID{}, forced: map[string]string{}, tokens: map[string]string{}, before: map[string]*before{}, applied: map[ID]uint64{}, lagging: map[string]bool{}, space: newSpace(),
	}
}

// Start is what a server process does at its start: pod is its name, volume the
// identity of its data volume, peerURL its own address, seed whether its
// settings tell it to begin a new cluster, and force the word with which they
// tell it to forget all others.
func (f *Fake) Start(pod, volume, peerURL string, seed bool, force string) Exit {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id, ok := f.disks[volume]; ok {
		m := f.members[id]
		if m == nil || f.removed[id] {
			return ExitForeign
		}
		if force != "" && f.forced[volume] != force {
			f.forced[volume] = force
			f.forget(m)
		}
		return f.serve(pod, m)
	}
	if seed {
		m := f.add(peerURL, false)
		f.disks[volume] = m.ID
		m.Name = pod
		return f.serve(pod, m)
	}
	m := f.byPeer(peerURL)
	switch {
	case m == nil || len(f.running) == 0:
		return ExitOther
	case m.Name != "":
		return ExitEmpty // any member that runs tells so
	case !f.quorum():
		return ExitOther
	}
	f.disks[volume] = m.ID
	m.Name = pod
	return f.serve(pod, m)
}

// forget makes a member the only one; what it did not have is gone.
func (f *Fake) forget(survivor *Member) {
	for id := range f.members {
		if id != survivor.ID {
			delete(f.members, id)
			f.removed[id] = true
		}
	}
	survivor.Learner = false
	f.committed = f.applied[survivor.ID] + 1
	f.note("force %s", survivor.Name)
	f.elect()
}

// Stop ends the process of a pod; its data stays.
func (f *Fake) Stop(pod string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, pod)
	f.elect()
}

// Wipe empties a volume.
func (f *Fake) Wipe(volume string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.disks, volume)
}

// Lag keeps a pod's member behind, or lets it catch up.
func (f *Fake) Lag(pod string, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lagging[pod] = on
}

// Write commits n entries, as clients do; it reports false without a quorum.
func (f *Fake) Write(n uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.quorum() {
		return false
	}
	f.committed += n
	return true
}

// Fail makes every call ask fn first; call is "look POD", "add", "promote",
// "remove" or "move". A nil fn ends it.
func (f *Fake) Fail(fn func(call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fn
}

// Changes returns what has changed the membership or the leadership, in order.
func (f *Fake) Changes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.changes)
}

// Ready says whether the process of a pod would pass a linearizable probe.
func (f *Fake) Ready(pod string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[f.running[pod]] != nil && f.leader != 0 && !f.space.corrupt()
}

// Alive says whether the process of a pod runs. One whose member has been
// removed has ended by itself.
func (f *Fake) Alive(pod string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[f.running[pod]] != nil
}

// Leader returns the name of the leading pod; empty when there is none.
func (f *Fake) Leader() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.members[f.leader]; m != nil {
		return m.Name
	}
	return ""
}

// ClusterID returns the cluster's identity.
func (f *Fake) ClusterID() uint64 { return f.clusterID }

// Look implements Access.
func (f *Fake) Look(_ context.Context, endpoints []string) View {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := View{Status: map[string]Status{}, Errs: map[string]error{}}
	for _, endpoint := range endpoints {
		s, err := f.status(host(endpoint))
		if err != nil {
			v.Errs[endpoint] = err
			continue
		}
		v.Status[endpoint] = s
	}
	if len(v.Status) == 0 || !f.quorum() {
		v.ListErr = errors.New("no member confirmed the membership list with a quorum")
		return f.guard(v, endpoints)
	}
	for _, m := range f.members {
		v.Members = append(v.Members, *m)
	}
	slices.SortFunc(v.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return f.guard(v, endpoints)
}

// AddLearner implements Access.
func (f *Fake) AddLearner(_ context.Context, _ []string, peerURL string) (ID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("add"); err != nil {
		return 0, err
	}
	if f.byPeer(peerURL) != nil {
		return 0, fmt.Errorf("add learner %s: peer URLs already exist", peerURL)
	}
	m := f.add(peerURL, true)
	f.note("add %s", host(peerURL))
	return m.ID, nil
}

// Promote implements Access.
func (f *Fake) Promote(_ context.Context, _ []string, id ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("promote"); err != nil {
		return err
	}
	m := f.members[id]
	switch {
	case m == nil:
		return ErrNotFound
	case m.Name == "" || f.lagging[m.Name]:
		return ErrNotReady
	}
	m.Learner = false
	f.note("promote %s", m.Name)
	return nil
}

// Remove implements Access.
func (f *Fake) Remove(_ context.Context, _ []string, id ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("remove"); err != nil {
		return err
	}
	m := f.members[id]
	if m == nil {
		return ErrNotFound
	}
	delete(f.members, id)
	f.removed[id] = true
	f.note("remove %s", host(m.PeerURLs[0]))
	f.elect()
	return nil
}

// MoveLeader implements Access.
func (f *Fake) MoveLeader(_ context.Context, leaderEndpoint string, to ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("move"); err != nil {
		return err
	}
	m := f.members[to]
	switch {
	case m == nil:
		return ErrNotFound
	case f.running[host(leaderEndpoint)] != f.leader:
		return errors.New("move leader: this member is not the leader")
	case m.Learner || !f.alive(m):
		return errors.New("move leader: the target cannot lead")
	}
	f.leader = to
	f.note("move %s", m.Name)
	return nil
}

func (f *Fake) may(call string) error {
	if f.fail != nil {
		if err := f.fail(call); err != nil {
			return err
		}
	}
	if !f.quorum() {
		return errors.New("no quorum")
	}
	f.committed++
	return nil
}

func (f *Fake) status(pod string) (Status, error) {
	if f.fail != nil {
		if err := f.fail("look " + pod); err != nil {
			return Status{}, err
		}
	}
	id := f.running[pod]
	m := f.members[id]
	if m == nil {
		return Status{}, errors.New("connection refused")
	}
	if !f.lagging[pod] {
		f.applied[id] = f.committed
	}
	return Status{
		ID: id, ClusterID: f.clusterID, Leader: f.leader, Learner: m.Learner, Version: FakeVersion,
		RaftIndex: f.committed, AppliedIndex: f.applied[id], RaftTerm: 2, DBSizeBytes: f.space.sizes[id],
		LogTerm: 2, LogIndex: f.applied[id], Revision: int64(f.committed),
		QuotaBytes: f.space.quotas[id], Alarms: slices.Clone(f.space.alarms),
		Compacted: f.space.compacted,
	}, nil
}

func (f *Fake) serve(pod string, m *Member) Exit {
	f.running[pod] = m.ID
	f.connect()
	m.ClientURLs = []string{strings.Replace(m.PeerURLs[0], ":2380", ":2379", 1)}
	f.elect()
	return Running
}

func (f *Fake) add(peerURL string, learner bool) *Member {
	f.nextID++
	m := &Member{ID: f.nextID, PeerURLs: []string{peerURL}, Learner: learner}
	f.members[m.ID] = m
	return m
}

func (f *Fake) byPeer(peerURL string) *Member {
	for _, m := range f.members {
		if slices.Contains(m.PeerURLs, peerURL) {
			return m
		}
	}
	return nil
}

func (f *Fake) alive(m *Member) bool { return m.Name != "" && f.running[m.Name] == m.ID }

// quorum says whether more than half of the voters run.
func (f *Fake) quorum() bool {
	voters, up := 0, 0
	for _, m := range f.members {
		if m.Learner {
			continue
		}
		voters++
		if f.alive(m) {
			up++
		}
	}
	return up > voters/2
}

// elect keeps the leader while it can lead, and else takes the lowest voter.
func (f *Fake) elect() {
	if !f.quorum() {
		f.leader = 0
		return
	}
	if m := f.members[f.leader]; m != nil && !m.Learner && f.alive(m) {
		return
	}
	f.leader = 0
	for id, m := range f.members {
		if !m.Learner && f.alive(m) && (f.leader == 0 || id < f.leader) {
			f.leader = id
		}
	}
}

func (f *Fake) note(format string, args ...any) {
	f.changes = append(f.changes, fmt.Sprintf(format, args...))
}

// host is the first label of a URL's host: the pod's name.
func host(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return rawURL
	}
	name, _, _ := strings.Cut(u.Hostname(), ".")
	return name
}

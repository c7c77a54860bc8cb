package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Options bound what a call may cost.
type Options struct {
	// LookTimeout bounds one Look; 2 s when zero.
	LookTimeout time.Duration
	// ChangeTimeout bounds one change of membership; 5 s when zero.
	ChangeTimeout time.Duration
}

// Etcd reaches members through the etcd API. A connection lives as long as the
// call that needs it: a member that moved to another address is found at once,
// nothing is left behind for a cluster that is gone, and at a few calls a
// minute the price of dialling does not matter.
type Etcd struct {
	options     Options
	credentials Credentials
	sessions    *sessions
}

var _ Access = (*Etcd)(nil)

// NewEtcd returns the access used in production.
func NewEtcd(o Options) *Etcd {
	if o.LookTimeout == 0 {
		o.LookTimeout = 2 * time.Second
	}
	if o.ChangeTimeout == 0 {
		o.ChangeTimeout = 5 * time.Second
	}
	return &Etcd{options: o, sessions: &sessions{all: map[string]session{}}}
}

// With returns the access to members that ask for credentials.
func (e *Etcd) With(c Credentials) *Etcd {
	return &Etcd{options: e.options, credentials: c, sessions: e.sessions}
}

// Look implements Access.
func (e *Etcd) Look(ctx context.Context, endpoints []string) View {
	ctx, cancel := context.WithTimeout(ctx, e.options.LookTimeout)
	defer cancel()
	now := e.sessions.of(e.credentials)
	if !slices.Contains(e.credentials.Root, now.password) {
		now = session{}
	}
	answers := e.askAll(now.with(ctx), endpoints)
	users, asked := authOf(answers)
	good := now.token != "" && !asked
	if users.Enabled && !good && len(e.credentials.Root) > 0 {
		next := e.login(ctx, loginPoints(endpoints, answers))
		if good = next.token != ""; good {
			now, answers = next, e.askAll(next.with(ctx), endpoints)
		}
	}
	e.sessions.keep(e.credentials, now)
	v := merge(endpoints, answers)
	if v.Auth = users; users.Enabled && good {
		v.Auth.Password = now.password
	}
	return v
}

func (e *Etcd) askAll(ctx context.Context, endpoints []string) []answer {
	answers := make([]answer, len(endpoints))
	var wg sync.WaitGroup
	for i, endpoint := range endpoints {
		wg.Go(func() { answers[i] = e.ask(ctx, endpoint) })
	}
	wg.Wait()
	return answers
}

// answer is what one endpoint said; its parts fail independently, since a learner
// serves its status but no list.
type answer struct {
	auth      bool
	authErr   error
	status    Status
	statusErr error
	members   []Member
	listErr   error
}

func (e *Etcd) ask(ctx context.Context, endpoint string) answer {
	c, err := e.dial(ctx, endpoint)
	if err != nil {
		return answer{statusErr: err, listErr: err, authErr: err}
	}
	defer c.Close()
	var a answer
	var wg sync.WaitGroup
	wg.Go(func() { a.status, a.statusErr = status(ctx, c) })
	wg.Go(func() { a.members, a.listErr = list(ctx, c) })
	wg.Go(func() { a.auth, a.authErr = authStatus(ctx, c) })
	wg.Wait()
	return a
}

// merge takes the list of the answering member that is furthest ahead: each
// list is linearizable for its own moment, and the latest moment wins.
func merge(endpoints []string, answers []answer) View {
	v := View{Status: map[string]Status{}, Errs: map[string]error{}}
	var best *answer
	for i := range answers {
		a := &answers[i]
		if a.statusErr != nil {
			v.Errs[endpoints[i]] = a.statusErr
		} else {
			v.Status[endpoints[i]] = a.status
		}
		if a.listErr == nil && (best == nil || a.status.AppliedIndex > best.status.AppliedIndex) {
			best = a
		}
	}
	if best != nil {
		v.Members = best.members
		return v
	}
	v.ListErr = errors.New("no member confirmed the membership list with a quorum")
	for i := range answers {
		if answers[i].listErr != nil {
			v.ListErr = fmt.Errorf("%w; %s: %w", v.ListErr, endpoints[i], answers[i].listErr)
			break
		}
	}
	return v
}

// AddLearner implements Access.
func (e *Etcd) AddLearner(ctx context.Context, endpoints []string, peerURL string) (ID, error) {
	var id ID
	err := e.change(ctx, endpoints, func(ctx context.Context, c *clientv3.Client) error {
		r, err := c.MemberAddAsLearner(ctx, []string{peerURL})
		if err == nil {
			id = ID(r.Member.GetID())
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("add learner %s: %w", peerURL, err)
	}
	return id, nil
}

// UpdatePeerURL implements Access.
func (e *Etcd) UpdatePeerURL(ctx context.Context, endpoints []string, id ID, peerURL string) error {
	err := e.change(ctx, endpoints, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.MemberUpdate(ctx, uint64(id), []string{peerURL})
		return err
	})
	if err != nil {
		return fmt.Errorf("set the peer URL of member %x to %s: %w", uint64(id), peerURL, err)
	}
	return nil
}

// Promote implements Access.
func (e *Etcd) Promote(ctx context.Context, endpoints []string, id ID) error {
	err := e.change(ctx, endpoints, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.MemberPromote(ctx, uint64(id))
		return err
	})
	if err != nil {
		return fmt.Errorf("promote member %x: %w", uint64(id), err)
	}
	return nil
}

// Remove implements Access.
func (e *Etcd) Remove(ctx context.Context, endpoints []string, id ID) error {
	err := e.change(ctx, endpoints, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.MemberRemove(ctx, uint64(id))
		return err
	})
	if err != nil {
		return fmt.Errorf("remove member %x: %w", uint64(id), err)
	}
	return nil
}

// MoveLeader implements Access.
func (e *Etcd) MoveLeader(ctx context.Context, leaderEndpoint string, to ID) error {
	err := e.change(ctx, []string{leaderEndpoint}, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.MoveLeader(ctx, uint64(to))
		return err
	})
	if err != nil {
		return fmt.Errorf("move leader to %x: %w", uint64(to), err)
	}
	return nil
}

// change runs fn over a client that balances among the endpoints; it is tried
// once, since the next reconcile observes before it asks again.
func (e *Etcd) change(ctx context.Context, endpoints []string, fn func(context.Context, *clientv3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, e.options.ChangeTimeout)
	defer cancel()
	c, err := e.dial(ctx, endpoints...)
	if err != nil {
		return err
	}
	defer c.Close()
	return translate(fn(e.sessions.of(e.credentials).with(ctx), c))
}

func (e *Etcd) dial(ctx context.Context, endpoints ...string) (*clientv3.Client, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("no endpoint to ask")
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints,
		TLS:       e.credentials.TLS,
		Context:   ctx,
		Logger:    zap.NewNop(),
		// Calls are single attempts; the reconcile loop is the retry.
		MaxUnaryRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", endpoints, err)
	}
	return c, nil
}

// What a member's status has in its header beside etcd's fields.
const (
	headerVersion  = "metastore-version"
	headerLogIndex = "metastore-log-index"
	headerLogTerm  = "metastore-log-term"
	headerSettings = "metastore-settings"
)

func status(ctx context.Context, c *clientv3.Client) (Status, error) {
	var header metadata.MD
	r, err := pb.NewMaintenanceClient(c.ActiveConnection()).Status(ctx, &pb.StatusRequest{}, grpc.Header(&header))
	if err != nil {
		return Status{}, fmt.Errorf("status: %w", err)
	}
	s := Status{
		ID:           ID(r.Header.GetMemberId()),
		ClusterID:    r.Header.GetClusterId(),
		Leader:       ID(r.Leader),
		Learner:      r.IsLearner,
		Version:      strings.Join(header.Get(headerVersion), ""),
		RaftIndex:    r.RaftIndex,
		AppliedIndex: r.RaftAppliedIndex,
		RaftTerm:     r.RaftTerm,
		LogTerm:      number(header, headerLogTerm),
		LogIndex:     number(header, headerLogIndex),
		Settings:     strings.Join(header.Get(headerSettings), ""),
		DBSizeBytes:  r.DbSize,
		QuotaBytes:   r.DbSizeQuota,
		Revision:     r.Header.GetRevision(),
		Alarms:       alarms(r.Errors),
		Errors:       r.Errors,
	}
	s.Compacted = compacted(ctx, c, s)
	return s, nil
}

func number(header metadata.MD, name string) uint64 {
	for _, text := range header.Get(name) {
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return n
		}
	}
	return 0
}

func list(ctx context.Context, c *clientv3.Client) ([]Member, error) {
	r, err := c.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("member list: %w", err)
	}
	if len(r.Members) == 0 {
		return nil, errors.New("member list: the answer is empty")
	}
	members := make([]Member, 0, len(r.Members))
	for _, m := range r.Members {
		members = append(members, fromWire(m))
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members, nil
}

func fromWire(m *pb.Member) Member {
	return Member{
		ID:         ID(m.GetID()),
		Name:       m.GetName(),
		PeerURLs:   m.GetPeerURLs(),
		ClientURLs: m.GetClientURLs(),
		Learner:    m.GetIsLearner(),
	}
}

// translate turns the two answers that callers branch on into sentinels.
func translate(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrMemberNotFound):
		return ErrNotFound
	case errors.Is(err, rpctypes.ErrMemberLearnerNotReady):
		return ErrNotReady
	default:
		return err
	}
}

package backup

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// statusTimeout bounds the question how a member is.
	statusTimeout = 5 * time.Second
	// aliveTime and aliveTimeout: a member that answers no ping is lost.
	aliveTime, aliveTimeout = 10 * time.Second, 10 * time.Second
	// maxTries is how many members are asked for a snapshot, and roundPause the
	// time before those are asked again that failed.
	maxTries   = 6
	roundPause = time.Second
	// headerVersion is where a member of MetaStore tells its version.
	headerVersion = "metastore-version"
)

// Members are those of the cluster, and how they are reached.
type Members struct {
	Endpoints []string
	// TLS is used with https; without files the system's CAs are.
	TLS            transport.TLSInfo
	User, Password string
}

func (m Members) validate() error {
	if len(m.Endpoints) == 0 {
		return failf(InvalidArgument, "--endpoints is needed: the client URLs of all members")
	}
	for _, e := range m.Endpoints {
		if u, err := url.Parse(e); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return failf(InvalidArgument, "--endpoints=%s is not valid: URLs such as https://10.0.0.1:2379 are allowed", e)
		}
	}
	if (m.TLS.CertFile == "") != (m.TLS.KeyFile == "") {
		return failf(InvalidArgument, "--cert and --key go together: give both or none")
	}
	return nil
}

// source is one member that was asked how it is.
type source struct {
	endpoint string
	client   *clientv3.Client
	status   *pb.StatusResponse
	version  string
}

func (s *source) clusterID() string { return strconv.FormatUint(s.status.Header.ClusterId, 16) }
func (s *source) memberID() string  { return strconv.FormatUint(s.status.Header.MemberId, 16) }

// rank orders members: a follower that has a leader is asked before the leader,
// and what has neither is the last resort.
func (s *source) rank() int {
	switch {
	case s.status.Leader == 0:
		return 2
	case s.status.Leader == s.status.Header.MemberId:
		return 1
	}
	return 0
}

// cluster asks members. Close it.
type cluster struct {
	members Members
	tls     *tls.Config
	logger  *slog.Logger
	failed  map[string]bool // endpoints, since the last round began
}

func newCluster(m Members, logger *slog.Logger) (*cluster, error) {
	c := &cluster{members: m, logger: logger, failed: map[string]bool{}}
	var err error
	if c.tls, err = m.TLS.ClientConfig(); err != nil {
		return nil, failf(InvalidArgument, "--cacert, --cert or --key: %w", err)
	}
	return c, nil
}

func (c *cluster) connect(ctx context.Context, endpoint, user string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, TLS: c.tls, Username: user, Password: c.members.Password,
		DialTimeout: statusTimeout, DialKeepAliveTime: aliveTime, DialKeepAliveTimeout: aliveTimeout,
		Context: ctx, Logger: zap.NewNop(), MaxCallRecvMsgSize: 64 << 20,
	})
}

// ask connects to a member and asks how it is.
func (c *cluster) ask(ctx context.Context, endpoint string) (*source, error) {
	client, err := c.connect(ctx, endpoint, c.members.User)
	if errors.Is(err, context.DeadlineExceeded) {
		err = c.whyNot(ctx, endpoint, err)
	}
	if err != nil {
		return nil, err
	}
	var header metadata.MD
	st, err := askStatus(ctx, client, grpc.Header(&header))
	if err == nil && st.IsLearner {
		err = errors.New("it is a learner")
	}
	if err == nil && slices.ContainsFunc(st.Errors, isCorruptAlarm(st.Header.MemberId)) {
		err = errors.New("an alarm says that its data is damaged")
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	s := &source{endpoint: endpoint, client: client, status: st}
	if v := header.Get(headerVersion); len(v) > 0 {
		s.version = v[0]
	}
	return s, nil
}

// whyNot finds out why nobody could be authenticated: the client does not tell.
func (c *cluster) whyNot(ctx context.Context, endpoint string, because error) error {
	client, err := c.connect(ctx, endpoint, "")
	if err != nil {
		return errors.Join(because, err)
	}
	_, err = askStatus(ctx, client)
	return errors.Join(because, err, client.Close())
}

func askStatus(ctx context.Context, client *clientv3.Client, o ...grpc.CallOption) (*pb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return pb.NewMaintenanceClient(client.ActiveConnection()).Status(ctx, &pb.StatusRequest{}, o...)
}

// isCorruptAlarm finds the alarm among the errors of a status, which are texts.
func isCorruptAlarm(member uint64) func(string) bool {
	a := &pb.AlarmMember{MemberID: member, Alarm: pb.AlarmType_CORRUPT}
	return func(s string) bool { return s == a.String() }
}

// next chooses the member to take a snapshot from. Those that failed are asked
// again when no other is left. Close the source's client.
func (c *cluster) next(ctx context.Context) (*source, error) {
	s, err := c.choose(ctx)
	if err == nil || len(c.failed) == 0 {
		return s, err
	}
	clear(c.failed)
	select {
	case <-time.After(roundPause):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return c.choose(ctx)
}

func (c *cluster) choose(ctx context.Context) (*source, error) {
	found, errs := make([]*source, len(c.members.Endpoints)), make([]error, len(c.members.Endpoints))
	var asked sync.WaitGroup
	for i, e := range c.members.Endpoints {
		if c.failed[e] {
			continue
		}
		asked.Go(func() {
			if found[i], errs[i] = c.ask(ctx, e); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", e, errs[i])
			}
		})
	}
	asked.Wait()
	var best *source
	for _, s := range found {
		if s != nil && (best == nil || better(s, best)) {
			best, s = s, best
		}
		if s != nil {
			_ = s.client.Close() // it was only asked
		}
	}
	if best == nil {
		return nil, failf(memberReason(errs...), "no member can be asked for a snapshot: %w", orNone(errors.Join(errs...)))
	}
	return best, nil
}

func orNone(err error) error {
	if err == nil {
		return errors.New("all have failed")
	}
	return err
}

func better(a, b *source) bool {
	if a.rank() != b.rank() {
		return a.rank() < b.rank()
	}
	return a.status.RaftAppliedIndex > b.status.RaftAppliedIndex
}

// memberReason tells a refusal by any member from what may be over the next
// moment.
func memberReason(errs ...error) Reason {
	if slices.ContainsFunc(errs, refused) {
		return AccessDenied
	}
	return Unreachable
}

// refused says that a member did not let us: a wrong password and a missing user
// are invalid arguments to etcd.
func refused(err error) bool {
	code := codes.OK
	var known rpctypes.EtcdError
	var other interface{ GRPCStatus() *status.Status }
	switch {
	case errors.As(err, &known):
		code = known.Code()
	case errors.As(err, &other):
		code = other.GRPCStatus().Code()
	}
	return code == codes.PermissionDenied || code == codes.Unauthenticated || code == codes.InvalidArgument
}

// download writes the member's snapshot to w.
func (s *source) download(ctx context.Context, w io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := s.client.SnapshotWithVersion(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Snapshot.Close()) }()
	target := &targetWriter{w: w}
	_, err = io.CopyBuffer(struct{ io.Writer }{target}, struct{ io.Reader }{r.Snapshot}, make([]byte, copyBytes))
	if target.err != nil {
		return target.err
	}
	return err
}

// errCompacted says that the member was compacted after its snapshot was made.
var errCompacted = errors.New("the member was compacted meanwhile")

// describe asks the member for the hash and the number of keys at a revision
// when history up to compactRev was compacted.
func (s *source) describe(ctx context.Context, rev, compactRev int64) (hash uint32, keys int64, err error) {
	h, err := s.client.HashKV(ctx, s.endpoint, rev)
	if err == nil && max(h.CompactRevision, 0) != compactRev {
		err = errCompacted
	}
	if err != nil {
		return 0, 0, wasCompacted(err)
	}
	r, err := s.client.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly(), clientv3.WithRev(rev), clientv3.WithSerializable())
	if err != nil {
		return 0, 0, wasCompacted(err)
	}
	return h.Hash, r.Count, nil
}

func wasCompacted(err error) error {
	if errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) {
		return errCompacted
	}
	return err
}

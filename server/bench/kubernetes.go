package bench

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// kubernetesWatchers are API servers, of which each watches everything once.
const kubernetesWatchers = 3

// listLimit is the page of Kubernetes' lists.
const listLimit = 500

func kubernetesScenarios() []Scenario {
	return []Scenario{{
		Name:  "kubernetes",
		Short: "What API servers ask: guarded updates, creations and deletions, single reads, lists by pages, counts, and watches beside",
		make:  func(r *run) scenario { return &kubernetes{r: r, watches: newWatches(r)} },
	}}
}

// The kinds of requests, and how many of 100 they are.
const (
	kindUpdate = iota
	kindCreate
	kindDelete
	kindGet
	kindList
	kindCount
)

const (
	percentCreateDelete = 15
	percentGet          = 15
	percentList         = 8
	percentCount        = 2
)

// kubernetes has objects, which are updated and listed, and for each slot one
// key that is created and deleted in turn; these are the last of the key space.
type kubernetes struct {
	r       *run
	objects int
	// temporary are the revisions of the slots' own keys, 0 for a key that is
	// not there.
	temporary []int64
	watches   *watches
}

func (k *kubernetes) kinds() ([]string, int) {
	names := []string{"update", "create", "delete", "get", "list", "count"}
	return names, len(names)
}

func (k *kubernetes) prepare(ctx context.Context, _ *recorder) error {
	c := k.r.c
	if c.KeySpace < 2*c.InFlight {
		return refused("key-space", c.KeySpace, "twice --in-flight or more")
	}
	k.objects = c.KeySpace - c.InFlight
	k.temporary = make([]int64, c.InFlight)
	stale := &pb.DeleteRangeRequest{Key: k.r.data.key(nil, k.objects), RangeEnd: k.r.data.key(nil, c.KeySpace)}
	if err := k.r.clients[0].Invoke(ctx, pb.KV_DeleteRange_FullMethodName, stale, &pb.DeleteRangeResponse{}); err != nil {
		return err
	}
	if err := k.r.fill(ctx, k.objects); err != nil {
		return err
	}
	everything := &pb.WatchCreateRequest{Key: k.r.data.prefix, RangeEnd: k.r.data.end(), PrevKv: true}
	for range kubernetesWatchers {
		if err := k.watches.stream(ctx, []*watcher{{request: everything}}); err != nil {
			return err
		}
	}
	return nil
}

func (k *kubernetes) close() { k.watches.close() }

func (k *kubernetes) measure(ctx context.Context, rec *recorder) ([]Figure, error) {
	l := k.r.timed(k, rec)
	err := k.r.drive(ctx, l, k.r.c.InFlight)
	if k.r.errors.err() != nil { // how many events there should be is not known
		return nil, err
	}
	err = errors.Join(err, k.watches.wait(ctx, 0))
	return []Figure{{"events", float64(k.watches.count()), ""}}, err
}

func (k *kubernetes) next(s *slot) bool {
	switch p := s.rng.IntN(100); {
	case p < percentCreateDelete:
		k.createOrDelete(s)
	case p < percentCreateDelete+percentGet:
		s.kind = kindGet
		k.r.pickOwn(s, k.objects)
		k.read(s, &pb.RangeRequest{Key: s.keyBytes})
	case p < percentCreateDelete+percentGet+percentList:
		s.kind, s.key = kindList, s.rng.IntN(k.objects)
		k.read(s, &pb.RangeRequest{Key: k.r.data.key(nil, s.key), RangeEnd: k.r.data.key(nil, k.objects), Limit: listLimit})
	case p < percentCreateDelete+percentGet+percentList+percentCount:
		s.kind = kindCount
		k.read(s, &pb.RangeRequest{Key: k.r.data.prefix, RangeEnd: k.r.data.key(nil, k.objects), CountOnly: true})
	default:
		s.kind = kindUpdate
		k.r.pickOwn(s, k.objects)
		swaps{k.r}.swap(s)
	}
	return true
}

func (k *kubernetes) read(s *slot, request *pb.RangeRequest) {
	s.method, s.request, s.reply = pb.KV_Range_FullMethodName, request, &pb.RangeResponse{}
}

func (k *kubernetes) createOrDelete(s *slot) {
	s.key = k.objects + s.id
	s.keyBytes = k.r.data.key(s.keyBytes[:0], s.key)
	revision := k.temporary[s.id]
	op := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: s.keyBytes, Value: k.r.data.value(s.key, 0)}}}
	if s.kind = kindCreate; revision > 0 {
		s.kind = kindDelete
		op = &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: s.keyBytes}}}
	}
	s.guard(revision, op)
}

func (k *kubernetes) check(s *slot) error {
	switch s.kind {
	case kindUpdate:
		if err := (swaps{k.r}).check(s); err != nil {
			return err
		}
		k.watches.expect(kubernetesWatchers)
		return nil
	case kindCreate, kindDelete:
		return k.checkTemporary(s)
	}
	reply := s.reply.(*pb.RangeResponse)
	if err := s.header(reply.Header, false); err != nil {
		return err
	}
	switch s.kind {
	case kindGet:
		return k.r.checkRows(s, reply, s.key, 1, 1)
	case kindList:
		left := k.objects - s.key
		return k.r.checkRows(s, reply, s.key, min(listLimit, left), left)
	default:
		return k.r.checkRows(s, reply, 0, 0, k.objects)
	}
}

func (k *kubernetes) checkTemporary(s *slot) error {
	reply := s.reply.(*pb.TxnResponse)
	if !reply.Succeeded {
		return wrongReply("a key that nobody else writes was not at its last revision")
	}
	k.temporary[s.id] = 0
	if s.kind == kindCreate {
		k.temporary[s.id] = reply.Header.GetRevision()
	}
	k.watches.expect(kubernetesWatchers)
	return s.header(reply.Header, true)
}

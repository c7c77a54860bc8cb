package rpc

import (
	"bytes"
	"context"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/state"
)

// firstChunkKeys is how many pairs the first chunk of a RangeStream may hold.
const firstChunkKeys = 10

// RangeStream answers a range in chunks of about MaxRequestBytes, all of one
// revision. The last chunk alone has the header, with the store's revision when
// the stream began, and count and more for the whole.
func (s *kvServer) RangeStream(r *pb.RangeRequest, stream grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	if err := checkRangeStream(r); err != nil {
		return err
	}
	s.metrics.ranges.Add(1)
	if _, err := s.readable(stream.Context(), r.Serializable); err != nil {
		return err
	}
	fresh, err := s.allowRange(stream.Context(), r.Key, r.RangeEnd)
	if err != nil {
		return err
	}
	c := chunks{s: s.Server, ctx: stream.Context(), key: r.Key, end: r.RangeEnd, rev: r.Revision, left: r.Limit,
		shape: &pb.RangeRequest{KeysOnly: r.KeysOnly, SortTarget: r.SortTarget}}
	if c.left <= 0 {
		c.left = math.MaxInt64
	}
	c.limit = firstChunkKeys
	if r.Limit < 0 {
		c.limit = 0 // all in one chunk, as in etcd
	}
	answer := c.send
	if r.CountOnly {
		answer = c.count
	}
	if err := answer(stream.SendMsg); err != nil {
		return err
	}
	return fresh()
}

// chunks is the progress of one RangeStream.
type chunks struct {
	s        *Server
	ctx      context.Context //nolint:containedctx // it lives as long as the call
	key, end []byte          // what is not sent yet
	rev      int64           // pinned by the first read
	// shape is what chunks look like. A sort target comes with the default
	// order, which is all that a stream takes: each chunk is sorted by itself
	// then, as in etcd.
	shape *pb.RangeRequest
	limit int64 // pairs of the next chunk; 0: all
	left  int64 // pairs that may still be sent
	sent  int64
	// headerRev is the store's revision when the stream began.
	headerRev int64
}

// read reads what is not sent yet; it counts only when it is told to, since at
// an old revision that takes a look at every key.
func (c *chunks) read(d *drawing, limit int64, countOnly bool) (*pb.RangeResponse, error) {
	// The machine of the moment: a snapshot that was installed holds the
	// pinned revision too, or says that it is compacted.
	read := c.s.b.Machine().RangeUncounted
	if countOnly {
		read = c.s.b.Machine().RangeWithin
	}
	resp, err := read(&pb.RangeRequest{
		Key: c.key, RangeEnd: c.end, Revision: c.rev, Limit: limit,
		KeysOnly: state.ReadsKeysOnly(c.shape) && !countOnly, CountOnly: countOnly,
	}, d.grow)
	if err != nil {
		return nil, wireError(err)
	}
	if c.rev == 0 {
		c.rev = resp.Header.Revision
	}
	return resp, nil
}

func (c *chunks) count(send func(any) error) error {
	resp, err := c.read(nil, 0, true)
	if err != nil {
		return err
	}
	out := &pb.RangeResponse{Header: c.s.headerAt(resp.Header.Revision), Count: resp.Count}
	return send(&pb.RangeStreamResponse{RangeResponse: out})
}

func (c *chunks) send(send func(any) error) error {
	for {
		last, err := c.sendChunk(send)
		if err != nil || last {
			return err
		}
	}
}

// sendChunk sends the next chunk, which draws on the budget of responses while
// it is read and until it has left.
func (c *chunks) sendChunk(send func(any) error) (last bool, err error) {
	d := &drawing{b: c.s.responses, ctx: c.ctx}
	out, last, err := c.next(d)
	if err != nil {
		d.release()
		return false, err
	}
	size := proto.Size(out)
	if err := send(d.response(out)); err != nil {
		return false, err
	}
	c.limit = nextChunkKeys(c.limit, size, c.s.o.MaxRequestBytes)
	return last, nil
}

// next reads the next chunk.
func (c *chunks) next(d *drawing) (m *pb.RangeStreamResponse, last bool, err error) {
	c.limit = min(c.limit, c.left)
	resp, err := c.read(d, c.limit, false)
	if err != nil {
		return nil, false, err
	}
	if c.headerRev == 0 {
		c.headerRev = resp.Header.Revision
	}
	n := int64(len(resp.Kvs))
	if resp.More {
		c.key = append(bytes.Clone(resp.Kvs[n-1].Key), 0)
	}
	resp.Kvs = state.Arrange(resp.Kvs, c.shape)
	c.sent += n
	c.left -= n
	out := &pb.RangeResponse{Kvs: resp.Kvs}
	last = !resp.More || c.left == 0
	if last {
		out.Header, out.More = c.s.headerAt(c.headerRev), resp.More
		if out.Count, err = c.total(resp.More); err != nil {
			return nil, false, err
		}
	}
	return &pb.RangeStreamResponse{RangeResponse: out}, last, nil
}

// total is what the whole range holds; more tells that it goes on.
func (c *chunks) total(more bool) (int64, error) {
	if !more {
		return c.sent, nil
	}
	rest, err := c.read(nil, 0, true)
	if err != nil {
		return 0, err
	}
	return c.sent + rest.Count, nil
}

// nextChunkKeys steers chunks towards the wanted size: double when one was
// less than half of it, half when it was more than twice.
func nextChunkKeys(keys int64, gotBytes, wantBytes int) int64 {
	switch {
	case gotBytes < wantBytes/2:
		return keys * 2
	case gotBytes > wantBytes*2:
		return max(keys/2, 1)
	}
	return keys
}

package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const (
	frameHeader = 8
	// maxFrameBytes refuses a length that no sender writes.
	maxFrameBytes = 512 << 20
	// frameStep is how much is allocated ahead of the bytes that came.
	frameStep = 4 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFrame means that a stream carries bytes that no sender writes.
var errFrame = errors.New("peer: damaged frame")

// appendFrame appends a message as one frame.
func appendFrame(b []byte, group uint32, m *raftpb.Message) ([]byte, error) {
	at := len(b)
	b = append(b, make([]byte, frameHeader)...)
	b = binary.BigEndian.AppendUint32(b, group)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return b[:at], fmt.Errorf("encode raft message: %w", err)
	}
	payload := b[at+frameHeader:]
	binary.BigEndian.PutUint32(b[at:], uint32(len(payload)))
	binary.BigEndian.PutUint32(b[at+4:], crc32.Checksum(payload, castagnoli))
	return b, nil
}

// readFrame returns the next message, or nil for a beat.
func readFrame(r io.Reader) (group uint32, m *raftpb.Message, err error) {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(h[:]))
	if n == 0 {
		return 0, nil, nil
	}
	if n < 4 || n > maxFrameBytes {
		return 0, nil, fmt.Errorf("%w: length %d", errFrame, n)
	}
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	payload, err := readPayload(r, n)
	if err != nil {
		return 0, nil, err
	}
	if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(h[:]) {
		return 0, nil, fmt.Errorf("%w: checksum", errFrame)
	}
	m = &raftpb.Message{}
	if err := proto.Unmarshal(payload[4:], m); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return binary.BigEndian.Uint32(payload), m, nil
}

func readPayload(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, 0, min(n, frameStep))
	for len(b) < n {
		at := len(b)
		b = append(b, make([]byte, min(n-at, frameStep))...)
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

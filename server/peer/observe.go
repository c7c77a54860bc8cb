package peer

import (
	"bufio"
	"time"
)

// Observer is asked once for each peer, or stream of one, who counts what passes
// between it and this member. It may be asked concurrently.
type Observer interface {
	Peer(id uint64) PeerObserver
}

// PeerObserver is told what happens. Its methods run concurrently, and the
// goroutines that send and receive wait for them.
type PeerObserver interface {
	// Connected: messages to the peer begin, or cease, to flow.
	Connected(now bool)
	// Sent and Received tell bytes of messages; an error says that a message was
	// dropped or a stream broke.
	Sent(sizeBytes int, err error)
	Received(sizeBytes int, err error)
	// RoundTrip is how long the network takes to the peer and back.
	RoundTrip(took time.Duration)
	// SendsSnapshot and ReceivesSnapshot are told when one begins and give whom
	// to tell how it ended.
	SendsSnapshot() (ended func(error))
	ReceivesSnapshot() (ended func(error))
}

type unobserved struct{}

func (unobserved) Peer(uint64) PeerObserver      { return unobserved{} }
func (unobserved) Connected(bool)                {}
func (unobserved) Sent(int, error)               {}
func (unobserved) Received(int, error)           {}
func (unobserved) RoundTrip(time.Duration)       {}
func (unobserved) SendsSnapshot() func(error)    { return func(error) {} }
func (unobserved) ReceivesSnapshot() func(error) { return func(error) {} }

// countingReader counts what was read of a stream.
type countingReader struct {
	r *bufio.Reader
	n int
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

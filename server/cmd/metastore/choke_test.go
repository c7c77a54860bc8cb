package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// choke stands before a server. Each connection that has carried so many bytes
// stops; reached tells of the first one.
type choke struct {
	address string
	// reached is closed once a connection stops, released by release.
	reached, released chan struct{}
	once, freed       sync.Once
}

// newChoke stops connections after limit bytes to the server, or from it.
func newChoke(t *testing.T, target string, limit int64, toServer bool) *choke {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &choke{address: l.Addr().String(), reached: make(chan struct{}), released: make(chan struct{})}
	var running sync.WaitGroup
	var open sync.Map // every connection, so that it ends with the test
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close() // as the server would
				continue
			}
			open.Store(client, nil)
			open.Store(server, nil)
			limited, free := server, client // what is read with and without limit
			if toServer {
				limited, free = client, server
			}
			running.Go(func() { c.carry(free, limited, limit) })
			running.Go(func() { c.carry(limited, free, 1<<60) })
		}
	})
	t.Cleanup(func() {
		c.release()
		_ = l.Close()
		open.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
		running.Wait()
	})
	return c
}

// carry copies until one side ends, and then ends both.
func (c *choke) carry(to, from net.Conn, limit int64) {
	_, err := io.CopyN(to, from, limit)
	if err == nil {
		c.once.Do(func() { close(c.reached) })
		<-c.released
		_, err = io.Copy(to, from)
	}
	_ = errors.Join(err, to.Close(), from.Close()) // a connection may end at any time
}

// release lets go on what stopped.
func (c *choke) release() { c.freed.Do(func() { close(c.released) }) }

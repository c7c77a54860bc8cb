package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// packets are the IP packets between members that have a network namespace each:
// all of them come through here, so that they can be lost, late, doubled and
// overtaken, one by one, and TCP in the kernel has to make good for it. Clients
// come by Unix sockets, which know no namespaces.
type packets struct {
	*links
	// tunnels are the members' only ways out, by their places.
	tunnels []*os.File
}

const (
	packetBytes = 1500
	// peerPort is the members' in their own namespaces.
	peerPort = 2380
)

// throughPackets has the members of a new cluster reach each other by packets,
// or skips the test where that is not allowed.
func throughPackets(t *testing.T, members []*member) *links {
	t.Helper()
	needRoot(t, "ip")
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("no tunnels: %v", err)
	}
	p := &packets{links: newLinks()}
	sockets, err := os.MkdirTemp("", "metastore") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	for i, m := range members {
		m.netns = fmt.Sprintf("metastore-test-%d-%d", os.Getpid(), i)
		p.tunnels = append(p.tunnels, newTunnel(t, m, i))
		m.client = fmt.Sprintf("unix://%s/m%d", sockets, i)
		m.peer = fmt.Sprintf("%s:%d", tunnelAddress(i), peerPort)
		m.advertised = m.peer
		t.Cleanup(m.kill) // before its namespace goes
	}
	introduce(members)
	p.serve(t)
	return p.links
}

func tunnelAddress(place int) string { return fmt.Sprintf("10.0.0.%d", place+1) }

// newTunnel makes a namespace with nothing in it but a tunnel to this process.
func newTunnel(t *testing.T, m *member, place int) *os.File {
	t.Helper()
	do(t, "ip", "netns", "add", m.netns)
	t.Cleanup(func() { do(t, "ip", "netns", "del", m.netns) })
	opened := make(chan any, 1)
	go func() {
		// The namespace is the thread's, which ends with this goroutine.
		runtime.LockOSThread()
		f, err := openTunnel("/run/netns/" + m.netns)
		if err != nil {
			opened <- err
		} else {
			opened <- f
		}
	}()
	f, ok := (<-opened).(*os.File)
	if !ok {
		t.Fatal("no tunnel")
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", tunnelAddress(place) + "/24", "dev", "peers"},
		{"link", "set", "peers", "mtu", fmt.Sprint(packetBytes), "up"},
	} {
		do(t, append([]string{"ip", "-n", m.netns}, args...)...)
	}
	return f
}

// openTunnel makes the tunnel in a namespace, which becomes this thread's.
func openTunnel(netns string) (*os.File, error) {
	ns, err := os.Open(netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter %s: %w", netns, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq("peers")
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, fmt.Errorf("make a tunnel: %w", err)
	}
	return os.NewFile(uintptr(fd), "tunnel"), nil
}

// serve carries packets until the test ends.
func (p *packets) serve(t *testing.T) {
	var running sync.WaitGroup
	for from, tunnel := range p.tunnels {
		running.Go(func() {
			for {
				b := make([]byte, packetBytes)
				n, err := tunnel.Read(b)
				if err != nil {
					return // the test is over
				}
				p.carry(from, b[:n])
			}
		})
	}
	t.Cleanup(func() {
		for _, tunnel := range p.tunnels {
			_ = tunnel.Close()
		}
		running.Wait()
	})
}

// carry takes one packet on its way.
func (p *packets) carry(from int, b []byte) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return // no IPv4
	}
	to := int(b[19]) - 1 // the last byte of the destination
	if to < 0 || to >= len(p.tunnels) || to == from {
		return
	}
	l, _ := p.between(from, to)
	if l.cut || rand.Float64() < l.lost {
		return
	}
	p.deliver(to, b, l)
	if rand.Float64() < l.twice {
		p.deliver(to, b, l)
	}
}

func (p *packets) deliver(to int, b []byte, l link) {
	d := l.latency()
	if rand.Float64() < l.late {
		d += lateness
	}
	// A packet that the kernel does not take is lost, which packets may be.
	if d == 0 {
		_, _ = p.tunnels[to].Write(b)
		return
	}
	time.AfterFunc(d, func() { _, _ = p.tunnels[to].Write(b) })
}

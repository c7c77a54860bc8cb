package peer

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roundTrip asks the kernel how long packets take to the other side and back: it
// measures that for every TCP connection anyway.
func roundTrip(conn net.Conn) (took time.Duration, ok bool) {
	if t, secure := conn.(*tls.Conn); secure {
		conn = t.NetConn()
	}
	c, ok := conn.(*net.TCPConn)
	if !ok {
		return 0, false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	return ask(raw)
}

func ask(raw syscall.RawConn) (took time.Duration, ok bool) {
	err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Rtt > 0 {
			took, ok = time.Duration(info.Rtt)*time.Microsecond, true
		}
	})
	return took, ok && err == nil
}

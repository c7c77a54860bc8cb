package peer

import (
	"context"
	"net"
	"net/http"
	"net/url"
)

// Peer URLs may name Unix sockets, as etcd's may: unix://PATH, and unixs://PATH
// with TLS. HTTP knows no such URLs, so requests are addressed to a name that
// stands for the socket, and the socket is what is dialled.
const socketName = "localhost"

func isSocket(u *url.URL) bool { return u.Scheme == "unix" || u.Scheme == "unixs" }

func isSecure(u *url.URL) bool { return u.Scheme == "https" || u.Scheme == "unixs" }

// webURL is what HTTP calls a peer URL, without a path.
func webURL(u *url.URL) *url.URL {
	w := &url.URL{Scheme: "http", Host: u.Host}
	if isSecure(u) {
		w.Scheme = "https"
	}
	if isSocket(u) {
		w.Host = socketName
	}
	return w
}

func dialURL(ctx context.Context, u *url.URL) (net.Conn, error) {
	network, address := "tcp", u.Host
	if isSocket(u) {
		network, address = "unix", u.Host+u.Path
	}
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
}

// reach returns a peer URL as HTTP calls it, and who sends requests there: the
// shared client, or for a socket one that keeps no connection.
func reach(shared *http.Client, c TLS, peerURL string) (*http.Client, *url.URL, error) {
	u, err := url.Parse(peerURL)
	if err != nil {
		return nil, nil, err
	}
	if !isSocket(u) {
		return shared, webURL(u), nil
	}
	t := httpTransport(c, func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialURL(ctx, u)
		if err != nil {
			return nil, err
		}
		return rollingConn{conn}, nil
	})
	t.DisableKeepAlives = true
	return &http.Client{Transport: t, Timeout: shared.Timeout}, webURL(u), nil
}

package node

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"metastore.io/metastore/server/peer"
)

// copyFiles makes one file of several.
func copyFiles(t *testing.T, to string, from ...string) {
	t.Helper()
	var all []byte
	for _, f := range from {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	if err := os.WriteFile(to, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Who vouches for clients may change while the member runs: one is added, the
// other is dropped, and a file that holds none changes nothing.
func TestClientAuthoritiesAreReadAnew(t *testing.T) {
	a, b := newAuthority(t, "a"), newAuthority(t, "b")
	server, first, second := a.issue("server", "server", nil), a.issue("client", "client", nil), b.issue("client", "client", nil)
	trusted := t.TempDir() + "/ca.crt"
	copyFiles(t, trusted, a.file)
	m := startMember(t, func(c *Config) {
		c.ClientTLS.CertFile, c.ClientTLS.KeyFile, c.ClientTLS.TrustedCAFile = server.cert, server.key, trusted
	})
	let := func(c issued, want bool, when string) {
		t.Helper()
		if err := m.handshake(t, a.client(&c)); (err == nil) != want {
			t.Errorf("%s: %v", when, err)
		}
	}
	let(first, true, "the first authority's at the start")
	let(second, false, "a stranger's")
	copyFiles(t, trusted, a.file, b.file)
	let(first, true, "the first authority's beside the second")
	let(second, true, "the second authority's when it is added")
	copyFiles(t, trusted, b.file)
	let(first, false, "the first authority's when it is gone")
	copyFiles(t, trusted, os.DevNull)
	let(second, true, "the second authority's with an empty file")
}

// Peers move from one authority to another without a restart: both are trusted,
// then certificates of the new one are shown, then only that is trusted. A
// member that knows nothing of the old one finds the others, and they it.
func TestPeerAuthorityIsReplaced(t *testing.T) {
	a, b := newAuthority(t, "a"), newAuthority(t, "b")
	old, renewed := a.issue("member", "member", nil), b.issue("member", "member", nil)
	dir := t.TempDir()
	cert, key, trusted := dir+"/tls.crt", dir+"/tls.key", dir+"/ca.crt"
	copyFiles(t, cert, old.cert)
	copyFiles(t, key, old.key)
	copyFiles(t, trusted, a.file)
	members := peerMembers(t, 3, func(i int) transport.TLSInfo {
		info := transport.TLSInfo{TrustedCAFile: trusted, ClientCertAuth: true}
		use(&info, issued{cert: cert, key: key})
		if i == 2 {
			info.TrustedCAFile = b.file
			use(&info, renewed)
		}
		return info
	})
	var nodes []*Node
	for _, m := range members[:2] {
		nodes = append(nodes, m.start(t))
	}
	for i, n := range nodes {
		waitReady(t, n, members[i].log)
	}
	copyFiles(t, trusted, a.file, b.file)
	copyFiles(t, cert, renewed.cert)
	copyFiles(t, key, renewed.key)
	copyFiles(t, trusted, b.file)
	waitReady(t, members[2].start(t), members[2].log)
	members[0].log.wait(t, 0, "connected to peer", "connected to peer")
}

// A peer address may have two URLs, one with TLS and one without: members that
// are told either find it.
func TestPeerAddressWithAndWithoutTLS(t *testing.T) {
	a := newAuthority(t, "ca")
	cert := a.issue("member", "member", nil)
	members := peerMembers(t, 2, func(int) transport.TLSInfo {
		info := transport.TLSInfo{TrustedCAFile: a.file, ClientCertAuth: true}
		use(&info, cert)
		return info
	})
	for _, m := range members {
		plain := m.config.ListenPeerURLs[0]
		plain.Scheme = "http"
		m.config.ListenPeerURLs = append(m.config.ListenPeerURLs, plain)
		m.config.InitialCluster = strings.Replace(m.config.InitialCluster, "m0=https:", "m0=http:", 1)
	}
	members[0].config.AdvertisePeerURLs = []url.URL{members[0].config.ListenPeerURLs[1]}
	first, second := members[0].start(t), members[1].start(t)
	waitReady(t, first, members[0].log)
	waitReady(t, second, members[1].log)

	secure := &http.Client{Transport: &http.Transport{TLSClientConfig: a.client(&cert)}}
	for _, m := range members {
		for client, u := range map[*http.Client]string{secure: "https://", http.DefaultClient: "http://"} {
			resp, err := client.Get(u + m.config.ListenPeerURLs[0].Host + peer.PathMembers)
			if err != nil {
				t.Errorf("%s: %v", u, err)
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			if err := resp.Body.Close(); err != nil || !strings.Contains(string(body), "m0") {
				t.Errorf("%s: %s, %v", u, body, err)
			}
		}
	}
	secure.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
}

package node

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// peerMember is one of several members that speak TLS to each other.
type peerMember struct {
	config Config
	log    *logBuffer
}

// peerMembers makes the configs of n members whose peer URLs have TLS.
func peerMembers(t *testing.T, n int, tls func(i int) transport.TLSInfo) []*peerMember {
	t.Helper()
	var members []*peerMember
	var initial []string
	for i := range n {
		c, log := memberConfig(t)
		c.Name = fmt.Sprintf("m%d", i)
		c.ListenPeerURLs[0].Scheme = "https"
		c.AdvertisePeerURLs = c.ListenPeerURLs
		u := url.URL{Scheme: "http", Host: freeAddress(t)}
		c.ListenClientURLs, c.AdvertiseClientURLs = []url.URL{u}, []url.URL{u}
		c.PeerTLS = tls(i)
		initial = append(initial, c.Name+"="+c.ListenPeerURLs[0].String())
		members = append(members, &peerMember{config: c, log: log})
	}
	for _, m := range members {
		m.config.InitialCluster = strings.Join(initial, ",")
	}
	return members
}

func (m *peerMember) start(t *testing.T) *Node {
	t.Helper()
	n, err := Start(t.Context(), m.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n
}

func waitReady(t *testing.T, n *Node, log *logBuffer) {
	t.Helper()
	select {
	case <-n.Ready():
	case <-time.After(30 * time.Second):
		t.Fatalf("not ready: %s", log)
	}
}

// Two members find each other; a third one with a certificate that the others
// refuse does not get in, and both sides tell why.
func TestPeerCertificates(t *testing.T) {
	a, stranger := newAuthority(t, "ca"), newAuthority(t, "ca")
	good := a.issue("good", "member", nil)
	for _, c := range []struct {
		name string
		bad  func(info *transport.TLSInfo) // changes the third member
		all  func(info *transport.TLSInfo) // changes all
		says string                        // by a good member
	}{
		{
			"expired", func(i *transport.TLSInfo) { use(i, a.issue("expired", "member", expired)) }, nil,
			"certificate has expired or is not yet valid",
		},
		{
			"of another authority", func(i *transport.TLSInfo) { use(i, stranger.issue("foreign", "member", nil)) }, nil,
			"certificate signed by unknown authority",
		},
		{
			"from elsewhere", func(i *transport.TLSInfo) { use(i, a.issue("elsewhere", "member", elsewhere)) }, nil,
			"certificate is valid for 192.0.2.7, not 127.0.0.1",
		},
		{
			"another name", func(i *transport.TLSInfo) { use(i, a.issue("named", "other", nil)) },
			func(i *transport.TLSInfo) { i.AllowedCNs = []string{"first", "member"} },
			"client certificate authentication failed",
		},
		{
			"no allowed host name", func(i *transport.TLSInfo) {
				i.AllowedHostnames = nil
				use(i, a.issue("nohost", "member", elsewhere))
			},
			func(i *transport.TLSInfo) { i.AllowedHostnames, i.SkipClientSANVerify = []string{"localhost"}, true },
			"client certificate authentication failed",
		},
		{
			"revoked", func(i *transport.TLSInfo) { use(i, a.issue("revoked", "member", nil)) }, nil, "revoked",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			members := peerMembers(t, 3, func(i int) transport.TLSInfo {
				info := transport.TLSInfo{TrustedCAFile: a.file, ClientCertAuth: true}
				use(&info, good)
				if c.all != nil {
					c.all(&info)
				}
				if i == 2 {
					c.bad(&info)
				}
				return info
			})
			if c.name == "revoked" {
				revoked := members[2].config.PeerTLS
				crl := a.revoke("crl", issued{x509: readCertificate(t, revoked.CertFile)})
				for _, m := range members {
					m.config.PeerTLS.CRLFile = crl
				}
			}
			var nodes []*Node
			for _, m := range members[:2] {
				nodes = append(nodes, m.start(t))
			}
			for i, n := range nodes {
				waitReady(t, n, members[i].log)
			}
			bad := members[2].start(t)
			members[0].log.wait(t, 0, "rejected connection on peer endpoint", c.says)
			select {
			case <-bad.Ready():
				t.Error("it got in")
			default:
			}
		})
	}
}

func use(info *transport.TLSInfo, c issued) { info.CertFile, info.KeyFile = c.cert, c.key }

// A certificate of its own may be shown to peers, and one that a peer shows from
// another address is fine where that is not looked at.
func TestPeerClientCertificates(t *testing.T) {
	a := newAuthority(t, "ca")
	server := a.issue("server", "server", nil)
	client := a.issue("client", "client", elsewhere)
	members := peerMembers(t, 2, func(int) transport.TLSInfo {
		info := transport.TLSInfo{
			TrustedCAFile: a.file, ClientCertAuth: true, SkipClientSANVerify: true,
			ClientCertFile: client.cert, ClientKeyFile: client.key,
		}
		use(&info, server)
		return info
	})
	first, second := members[0].start(t), members[1].start(t)
	waitReady(t, first, members[0].log)
	waitReady(t, second, members[1].log)
}

// Peers' certificates are read anew, too: a member that was started with one
// that is not good any more joins with the next connection after it is replaced.
func TestPeerCertificateIsRotated(t *testing.T) {
	a := newAuthority(t, "ca")
	good, turning := a.issue("good", "member", nil), a.issue("turning", "member", expired)
	members := peerMembers(t, 2, func(i int) transport.TLSInfo {
		info := transport.TLSInfo{TrustedCAFile: a.file, ClientCertAuth: true}
		use(&info, []issued{good, turning}[i])
		return info
	})
	first, second := members[0].start(t), members[1].start(t)
	members[0].log.wait(t, 0, "certificate has expired or is not yet valid")
	a.issue("turning", "member", nil)
	waitReady(t, first, members[0].log)
	waitReady(t, second, members[1].log)
}

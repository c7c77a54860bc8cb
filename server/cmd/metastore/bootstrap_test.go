package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/dns/dnsmessage"

	"metastore.io/metastore/server/node"
)

// asksDNS makes a server of this test binary ask the name server at that
// address.
const asksDNS = "METASTORE_TEST_DNS"

func useTestDNS() {
	addr := os.Getenv(asksDNS)
	if addr == "" {
		return
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", addr)
	}}
}

// startDNS answers SRV questions for _etcd-server._tcp names with the members,
// whose hosts it knows, too.
func startDNS(t *testing.T, service string, members []*member) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		b := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return // closed
			}
			if answer := answerDNS(b[:n], service, members); answer != nil {
				_, _ = conn.WriteTo(answer, from) // the asker asks again
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); done.Wait() })
	t.Setenv(asksDNS, conn.LocalAddr().String())
}

func answerDNS(question []byte, service string, members []*member) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Header.Response, m.Header.Authoritative, m.Additionals = true, true, nil
	head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	for i, member := range members {
		host := fmt.Sprintf("host%d.test.", i)
		switch {
		case q.Type == dnsmessage.TypeSRV && q.Name.String() == service:
			_, port, _ := net.SplitHostPort(member.peer)
			n, _ := strconv.ParseUint(port, 10, 16)
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.SRVResource{Port: uint16(n), Target: dnsmessage.MustNewName(host)}})
		case q.Type == dnsmessage.TypeA && q.Name.String() == host:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}})
		}
	}
	if len(m.Answers) == 0 && q.Type == dnsmessage.TypeSRV {
		m.Header.RCode = dnsmessage.RCodeNameError
	}
	b, _ := m.Pack()
	return b
}

// without starts a member without its list of members.
func (m *member) without(extra ...string) {
	var args []string
	for _, a := range m.args() {
		if !strings.HasPrefix(a, "--initial-cluster=") {
			args = append(args, a)
		}
	}
	m.startArgs(append(args, extra...))
}

// wantMembers waits until all have the same so many members and answer.
func wantMembers(t *testing.T, members []*member, n int) {
	t.Helper()
	for _, m := range members {
		m.waitServing()
		eventually(t, 20*time.Second, func() error {
			list, err := client(t, m).MemberList(within(t, 5*time.Second))
			if err == nil && len(list.Members) != n {
				err = fmt.Errorf("%s knows %v", m.name, list.Members)
			}
			return err
		})
	}
}

// DNS tells the members; one that DNS does not tell is refused.
func TestDiscoverBySRV(t *testing.T) {
	members := newCluster(t, engines()[0], 3)
	stranger := newMember(t, "stranger", engines()[0])
	startDNS(t, "_etcd-server-blue._tcp.test.", members)
	for _, m := range members {
		m.without("--discovery-srv=test", "--discovery-srv-name=blue")
	}
	wantMembers(t, members, 3)
	// Once begun, a member needs DNS no more.
	members[2].kill()
	members[2].without("--discovery-srv=nowhere")
	members[2].waitServing()

	stranger.without("--discovery-srv=test", "--discovery-srv-name=blue")
	if code := stranger.exitCode(20 * time.Second); code == 0 || !strings.Contains(stranger.out.String(), `cannot find local etcd member \"stranger\" in SRV records`) &&
		!strings.Contains(stranger.out.String(), `cannot find local etcd member "stranger" in SRV records`) {
		t.Errorf("a stranger ends with %d:\n%s", code, stranger.out)
	}
	lost := newMember(t, "lost", engines()[0])
	lost.without("--discovery-srv=elsewhere")
	if code := lost.exitCode(20 * time.Second); code == 0 || !strings.Contains(lost.out.String(), "error querying DNS SRV records for _etcd-server") {
		t.Errorf("without records a member ends with %d:\n%s", code, lost.out)
	}
}

// Another cluster tells the members: as many as its size key says, no more.
func TestDiscoverByToken(t *testing.T) {
	registry := startCluster(t, engines()[0], 1)
	c := client(t, registry...)
	ctx := within(t, time.Minute)
	discovery := []string{"--discovery-token=tok", "--discovery-endpoints=http://" + registry[0].client}
	early := newMember(t, "early", engines()[0])
	early.without(discovery...)
	if code := early.exitCode(20 * time.Second); code != node.ExitFailure || !strings.Contains(early.out.String(), "discovery: size key not found") {
		t.Errorf("without a size a member ends with %d:\n%s", code, early.out)
	}
	if _, err := c.Put(ctx, "/_etcd/registry/tok/_config/size", "3"); err != nil {
		t.Fatal(err)
	}
	members := newCluster(t, engines()[0], 3)
	for _, m := range members {
		m.without(discovery...)
	}
	wantMembers(t, members, 3)
	late := newMember(t, "late", engines()[0])
	late.without(discovery...)
	if code := late.exitCode(20 * time.Second); code != node.ExitFailure || !strings.Contains(late.out.String(), "discovery: cluster is full") {
		t.Errorf("a fourth member ends with %d:\n%s", code, late.out)
	}
	// Once begun, a member needs the registry no more.
	registry[0].kill()
	members[1].kill()
	members[1].without(discovery...)
	members[1].waitServing()
}

// A signal ends a member that waits for others.
func TestDiscoveryEndsWithASignal(t *testing.T) {
	registry := startCluster(t, engines()[0], 1)
	if _, err := client(t, registry...).Put(within(t, time.Minute), "/_etcd/registry/tok/_config/size", "2"); err != nil {
		t.Fatal(err)
	}
	m := newMember(t, "alone", engines()[0])
	m.without("--discovery-token=tok", "--discovery-endpoints="+registry[0].client)
	eventually(t, 20*time.Second, func() error {
		if !strings.Contains(m.out.String(), "waiting for peers") {
			return errors.New("it does not wait yet")
		}
		return nil
	})
	m.signal(os.Interrupt)
	m.exitCode(15 * time.Second)
}

// The last member of a lost cluster begins a new one with all its data, which
// grows again to three.
func TestForceNewCluster(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		members := startCluster(t, engine, 3, "--bcrypt-cost=4")
		c := client(t, members...)
		ctx := within(t, time.Minute)
		lease, err := c.Grant(ctx, 3600)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			if _, err := c.Put(ctx, fmt.Sprintf("k%02d", i), "v", clientv3.WithLease(lease.ID)); err != nil {
				t.Fatal(err)
			}
		}
		enableAuth(t, c)
		before, err := userClient(t, "root", "top", members...).MemberList(ctx)
		if err != nil {
			t.Fatal(err)
		}
		// It has everything when it answers a read that the others confirm.
		self := members[0]
		if _, err := userClient(t, "root", "top", self).Get(ctx, "k00"); err != nil {
			t.Fatal(err)
		}
		for _, m := range members {
			m.kill()
		}
		self.initial = self.name + "=http://" + self.peer
		forced := func() {
			t.Helper()
			root := userClient(t, "root", "top", self)
			list, err := root.MemberList(ctx)
			if err != nil || len(list.Members) != 1 || list.Members[0].Name != self.name || list.Header.ClusterId != before.Header.ClusterId {
				t.Fatalf("members %v, %v", list, err)
			}
			r, err := root.Get(ctx, "k", clientv3.WithPrefix())
			if err != nil || r.Count != 50 || r.Kvs[49].Lease != int64(lease.ID) {
				t.Fatalf("keys %v, %v", r, err)
			}
			if ttl, err := root.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys()); err != nil || ttl.TTL <= 0 || len(ttl.Keys) != 50 {
				t.Fatalf("lease %v, %v", ttl, err)
			}
		}
		// Twice: the flag may have been left there.
		for range 2 {
			self.startArgs(append(self.args(), "--force-new-cluster"))
			self.waitUp()
			forced()
			self.kill()
		}
		self.start()
		self.waitUp()
		forced()
		if engine == engines()[0] {
			// The word is of a force that was carried out: nobody is forgotten.
			self.kill()
			self.startArgs(append(self.args(), "--force-new-cluster-once=one"))
			self.waitUp()
			forced()
			regrow(t, self, members[1])
			expectMembersAfterForce(t, self, "one", 3)
			expectMembersAfterForce(t, self, "two", 1)
		}
	})
}

func expectMembersAfterForce(t *testing.T, self *member, word string, want int) {
	t.Helper()
	self.kill()
	self.startArgs(append(self.args(), "--force-new-cluster-once="+word))
	self.waitUp()
	list, err := userClient(t, "root", "top", self).MemberList(within(t, time.Minute))
	if err != nil || len(list.Members) != want {
		t.Fatalf("started with the word %s: %v, %v", word, list, err)
	}
}

// regrow makes three members of one again. A member of the lost cluster must
// not come back: it was removed.
func regrow(t *testing.T, self, old *member) {
	t.Helper()
	root := userClient(t, "root", "top", self)
	grown := []*member{self}
	for _, name := range []string{"n1", "n2"} {
		m := joiner(t, name, self.engine, grown)
		id := addLearner(t, root, m)
		m.start()
		promote(t, root, id)
		grown = append(grown, m)
	}
	for _, m := range grown {
		r, err := userClient(t, "root", "top", m).Get(within(t, time.Minute), "k", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil || r.Count != 50 {
			t.Errorf("%s has %v, %v", m.name, r, err)
		}
	}
	old.start()
	if code := old.exitCode(30 * time.Second); code != node.ExitRemoved {
		t.Errorf("a member of the lost cluster ends with %d:\n%s", code, tail(old.out.String(), 10))
	}
}

// waitUp waits until a member with users is there again.
func (m *member) waitUp() {
	m.t.Helper()
	eventually(m.t, 20*time.Second, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{m.client}, DialTimeout: time.Second, Username: "root", Password: "top", Context: ctx})
		if err != nil {
			return err
		}
		return c.Close()
	})
}

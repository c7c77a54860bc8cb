package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
)

// asEtcdctl makes this test binary the real etcdctl.
const asEtcdctl = "METASTORE_TEST_AS_ETCDCTL"

func runEtcdctl() { ctlv3.MustStart() }

// ctl runs etcdctl against members.
type ctl struct {
	t         *testing.T
	endpoints string
}

func newCtl(t *testing.T, members ...*member) ctl {
	var e []string
	for _, m := range members {
		e = append(e, "http://"+m.client)
	}
	return ctl{t, strings.Join(e, ",")}
}

func (c ctl) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{"--endpoints=" + c.endpoints}, args...)...)
	cmd.Env = append(os.Environ(), asEtcdctl+"=1")
	return cmd
}

// run wants success and returns what was printed.
func (c ctl) run(args ...string) string {
	c.t.Helper()
	return c.feed("", args...)
}

func (c ctl) feed(stdin string, args ...string) string {
	c.t.Helper()
	cmd := c.command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("etcdctl %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}

func (c ctl) want(want string, args ...string) {
	c.t.Helper()
	if got := c.run(args...); got != want {
		c.t.Errorf("etcdctl %s prints\n%s\nwant\n%s", strings.Join(args, " "), got, want)
	}
}

// Unchanged etcdctl against three members.
func TestEtcdctl(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		members := startCluster(t, engine, 3)
		c := newCtl(t, members...)
		c.keys()
		c.watch()
		c.leases()
		c.maintenance(members)
		c.members(engine, members)
	})
}

func (c ctl) keys() {
	c.t.Helper()
	c.want("OK", "put", "a", "1")
	c.want("OK", "put", "ab", "2")
	c.want("a\n1\nab\n2", "get", "--prefix", "a")
	c.want("1", "del", "a")
	if got := c.feed("value(\"ab\") = \"2\"\n\nput x yes\n\nput x no\n\n", "txn"); !strings.HasPrefix(got, "SUCCESS") {
		c.t.Errorf("txn prints %q", got)
	}
	c.want("x\nyes", "get", "x")
}

func (c ctl) watch() {
	c.t.Helper()
	from, err := strconv.ParseInt(c.revision(), 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	c.run("put", "w1", "v")
	c.run("del", "w1")
	cmd := c.command("watch", "--prefix", "w", "--rev", fmt.Sprint(from+1))
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // a watch never ends by itself
		_ = cmd.Wait()
	}()
	eventually(c.t, 10*time.Second, func() error {
		if got := strings.TrimSpace(out.String()); got != "PUT\nw1\nv\nDELETE\nw1" {
			return fmt.Errorf("watch prints %q", got)
		}
		return nil
	})
}

func (c ctl) revision() string {
	c.t.Helper()
	var r struct {
		Header struct{ Revision json.Number }
	}
	if err := json.Unmarshal([]byte(c.run("get", "x", "-w", "json")), &r); err != nil {
		c.t.Fatal(err)
	}
	return r.Header.Revision.String()
}

func (c ctl) leases() {
	c.t.Helper()
	granted := strings.Fields(c.run("lease", "grant", "60"))
	id := granted[1]
	c.want("OK", "put", "--lease="+id, "leased", "v")
	c.want("lease "+id+" keepalived with TTL(60)", "lease", "keep-alive", "--once", id)
	if got := c.run("lease", "timetolive", "--keys", id); !strings.HasSuffix(got, "attached keys([leased])") {
		c.t.Errorf("timetolive prints %q", got)
	}
	c.want("found 1 leases\n"+id, "lease", "list")
	c.want("lease "+id+" revoked", "lease", "revoke", id)
	c.want("", "get", "leased")
}

func (c ctl) maintenance(members []*member) {
	c.t.Helper()
	rev := c.revision()
	c.want("compacted revision "+rev, "compact", rev)
	if out, err := c.command("get", "ab", "--rev=2").CombinedOutput(); err == nil || !strings.Contains(string(out), "etcdserver: mvcc: required revision has been compacted") {
		c.t.Errorf("a compacted revision: %v\n%s", err, out)
	}
	if got := c.run("endpoint", "status", "-w", "json"); strings.Count(got, `"version":"3.7.3"`) != len(members) {
		c.t.Errorf("status prints %s", got)
	}
	if out, err := c.command("endpoint", "health").CombinedOutput(); err != nil || strings.Count(string(out), "is healthy") != len(members) {
		c.t.Errorf("health: %v\n%s", err, out)
	}
	c.want("", "alarm", "list")
	lead := leader(c.t, members)
	other := members[0]
	if other == lead {
		other = members[1]
	}
	s, err := client(c.t, other).Status(within(c.t, 5*time.Second), other.client)
	if err != nil {
		c.t.Fatal(err)
	}
	newCtl(c.t, lead).run("move-leader", fmt.Sprintf("%x", s.Header.MemberId))
	if now := leader(c.t, members); now != other {
		c.t.Errorf("%s leads after leadership was moved to %s", now.name, other.name)
	}
}

func (c ctl) members(engine string, members []*member) {
	c.t.Helper()
	m := joiner(c.t, "joiner", engine, members)
	eventually(c.t, 20*time.Second, func() error { // until all are connected long enough
		out, err := c.command("member", "add", "joiner", "--learner", "--peer-urls=http://"+m.peer).CombinedOutput()
		if err != nil {
			return fmt.Errorf("member add: %w\n%s", err, out)
		}
		return nil
	})
	id := fmt.Sprintf("%x", c.memberID(m))
	m.start()
	eventually(c.t, 20*time.Second, func() error {
		out, err := c.command("member", "promote", id).CombinedOutput()
		if err != nil {
			return fmt.Errorf("member promote: %w\n%s", err, out)
		}
		return nil
	})
	m.waitServing()
	eventually(c.t, 20*time.Second, func() error {
		out, err := c.command("member", "remove", id).CombinedOutput()
		if err != nil {
			return fmt.Errorf("member remove: %w\n%s", err, out)
		}
		return nil
	})
	if got := c.run("member", "list"); strings.Count(got, "started") != len(members) {
		c.t.Errorf("member list prints\n%s", got)
	}
}

func (c ctl) memberID(m *member) uint64 {
	c.t.Helper()
	var list *clientv3.MemberListResponse
	cl, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(c.endpoints, ",")})
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	if list, err = cl.MemberList(within(c.t, 5*time.Second)); err != nil {
		c.t.Fatal(err)
	}
	for _, o := range list.Members {
		if o.PeerURLs[0] == "http://"+m.peer {
			return o.ID
		}
	}
	c.t.Fatalf("no member has the peer URL of %s", m.name)
	return 0
}

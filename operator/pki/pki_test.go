package pki

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"
)

var (
	now       = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	lifetimes = Lifetimes{Authority: 1000 * time.Hour, Certificate: 90 * time.Hour, Spread: time.Minute}
	both      = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
)

func authority(t *testing.T, name string) Pair {
	t.Helper()
	p, err := NewAuthority(name, lifetimes.Authority, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func issue(t *testing.T, ca Pair, usages []x509.ExtKeyUsage, names ...string) Pair {
	t.Helper()
	p, err := Issue(ca, Request{CommonName: "x", Names: names, Usages: usages}, lifetimes.Certificate, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhatIsMadeIsGood(t *testing.T) {
	p := issue(t, authority(t, "a"), both, "*.x-peers.ns.svc", "localhost", "127.0.0.1")
	if err := Judge(p, []string{"x-0.x-peers.ns.svc", "x-11.x-peers.ns.svc", "localhost", "127.0.0.1"}, both, now); err != nil {
		t.Error(err)
	}
	if Due(p.Cert, now, "localhost", "127.0.0.1") {
		t.Error("a new certificate is due")
	}
	if !Due(p.Cert, now, "other") {
		t.Error("a certificate without a wanted name is not due")
	}
	if at := now.Add(59 * time.Hour); Due(p.Cert, at) || !Due(p.Cert, at.Add(2*time.Hour)) {
		t.Error("it is not due when a third of its time is left")
	}
	if !Due(nil, now) || !Due([]byte("none"), now) {
		t.Error("no certificate is not due")
	}
	ca := authority(t, "short")
	long, err := Issue(ca, Request{}, 2*lifetimes.Authority, now)
	if err != nil || NotAfter(long.Cert).After(NotAfter(ca.Cert)) {
		t.Errorf("a certificate outlives its authority: %v", err)
	}
}

func TestBadPairsAreExplained(t *testing.T) {
	a, b := authority(t, "a"), authority(t, "b")
	good, other := issue(t, a, both, "host"), issue(t, b, both, "host")
	for _, c := range []struct {
		name   string
		change func(*Pair)
		at     time.Duration
		want   string
	}{
		{"good", func(*Pair) {}, 0, ""},
		{"no authority", func(p *Pair) { p.CA = nil }, 0, "has no ca.crt"},
		{"no certificate", func(p *Pair) { p.Cert = nil }, 0, "has no tls.crt"},
		{"no key", func(p *Pair) { p.Key = nil }, 0, "has no tls.key; add the key"},
		{"another's key", func(p *Pair) { p.Key = other.Key }, 0, "do not go together"},
		{"text", func(p *Pair) { p.Cert = []byte("hello") }, 0, "do not go together"},
		{"cut off", func(p *Pair) { p.Cert = p.Cert[:len(p.Cert)/2] }, 0, "do not go together"},
		{"no authority in it", func(p *Pair) { p.CA = []byte("hello") }, 0, "has a ca.crt without a certificate"},
		{"another's authority", func(p *Pair) { p.CA = b.Cert }, 0, "does not vouch for"},
		{"ended", func(*Pair) {}, 91 * time.Hour, "ended at 2030-01-05T06:00:00Z; renew it"},
		{"not begun", func(*Pair) {}, -time.Hour, "begins at"},
		{"slow clock", func(*Pair) {}, -8 * time.Minute, ""},
		{"for clients only", func(p *Pair) { *p = issue(t, a, both[1:], "host") }, 0, "as a server's (usage server auth)"},
		{"for servers only", func(p *Pair) { *p = issue(t, a, both[:1], "host") }, 0, "as a client's (usage client auth)"},
		{"another name", func(p *Pair) { *p = issue(t, a, both, "elsewhere") }, 0, "does not name host; renew it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := good
			c.change(&p)
			err := Judge(p, []string{"host"}, both, now.Add(c.at))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// story publishes until nothing changes, a little more than a Spread at a time,
// and tells what members had in each step.
func story(t *testing.T, p Published, source Pair, at time.Time, names map[string]string) []string {
	t.Helper()
	var out []string
	for range 10 {
		next, changed := Publish(p, source, lifetimes, at)
		if !changed {
			return out
		}
		if again, soon := Publish(next, source, lifetimes, at.Add(time.Second)); soon && !bytes.Equal(again.CA, next.CA) && len(without(next.CA, again.CA)) > 0 {
			t.Error("an authority is forgotten before all can know")
		}
		p = next
		out = append(out, describe(p, names))
		at = at.Add(lifetimes.Spread + time.Second)
	}
	t.Fatal("it never ends")
	return nil
}

func describe(p Published, names map[string]string) string {
	var trusts []string
	for _, text := range strings.SplitAfter(string(p.CA), "-----END CERTIFICATE-----\n") {
		if text != "" {
			trusts = append(trusts, names[text])
		}
	}
	return "trusts " + strings.Join(trusts, "+") + ", shows " + names[string(p.Cert)]
}

func TestAnotherAuthorityComesInThreeSteps(t *testing.T) {
	a, b := authority(t, "a"), authority(t, "b")
	first, renewed, second := issue(t, a, both), issue(t, a, both), issue(t, b, both)
	names := map[string]string{
		string(a.Cert): "a", string(b.Cert): "b",
		string(first.Cert): "a1", string(renewed.Cert): "a2", string(second.Cert): "b1",
	}
	for _, c := range []struct {
		name   string
		from   Published
		source Pair
		want   []string
	}{
		{"at first", Published{}, first, []string{"trusts a, shows a1"}},
		{"no change", Published{Pair: first}, first, nil},
		{"renewal", Published{Pair: first, Changed: now}, renewed, []string{"trusts a, shows a2"}},
		{"another authority", Published{Pair: first}, second, []string{"trusts a+b, shows a1", "trusts a+b, shows b1", "trusts b, shows b1"}},
		{
			"and back in the midst of it", Published{Pair: Pair{CA: Bundle(a.Cert, b.Cert), Cert: first.Cert, Key: first.Key}}, first,
			[]string{"trusts a, shows a1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := story(t, c.from, c.source, now, names)
			if strings.Join(got, "; ") != strings.Join(c.want, "; ") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	// The steps that could cut somebody off wait.
	trusting, _ := Publish(Published{Pair: first}, second, lifetimes, now)
	if _, changed := Publish(trusting, second, lifetimes, now.Add(59*time.Second)); changed {
		t.Error("a certificate is shown that not all can trust yet")
	}
	if !SignedBy(first.Cert, trusting.CA) || !SignedBy(second.Cert, trusting.CA) || SignedBy(second.Cert, a.Cert) {
		t.Error("SignedBy is wrong")
	}
}

// A quarter of the time left, and never more than two weeks, is late for somebody
// who renews with a third left.
func TestEndingIsAShareOfTheLifetime(t *testing.T) {
	ca := authority(t, "a")
	short := issue(t, ca, both)
	year, err := NewAuthority("year", 365*24*time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cert []byte
		at   time.Duration
		want bool
	}{
		{short.Cert, 0, false},
		{short.Cert, 61 * time.Hour, false}, // due, and renewed at the next look
		{short.Cert, 67 * time.Hour, false},
		{short.Cert, 68 * time.Hour, true},
		{short.Cert, 91 * time.Hour, true},
		{year.Cert, 350 * 24 * time.Hour, false},
		{year.Cert, 352 * 24 * time.Hour, true},
		{nil, 0, false},
	} {
		if got := Ending(c.cert, now.Add(c.at)); got != c.want {
			t.Errorf("after %s: %v", c.at, got)
		}
	}
}

// Bundles that people write may end without the end of a line, or hold none at all.
func TestBundlesAreJoinedWhateverTheirEnds(t *testing.T) {
	a, b := authority(t, "a"), authority(t, "b")
	cut := bytes.TrimSpace(a.Cert)
	want := string(a.Cert) + string(b.Cert)
	if got := string(Bundle(cut, b.Cert, cut)); got != want {
		t.Errorf("joined:\n%s", got)
	}
	if got := string(Bundle([]byte("damaged"), a.Cert, nil, b.Cert)); got != want {
		t.Errorf("joined with rubbish:\n%s", got)
	}
	first, second := issue(t, a, both), issue(t, b, both)
	first.CA = cut
	next, changed := Publish(Published{Pair: first}, second, lifetimes, now)
	if !changed || string(next.CA) != want {
		t.Errorf("members are to trust:\n%s", next.CA)
	}
}

// An issuer may itself be vouched for by another: what lies between is in tls.crt,
// as cert-manager writes it.
func TestAChainIsFollowed(t *testing.T) {
	root := certifier(t, nil)
	between := certifier(t, &root)
	leaf := issue(t, between, both, "host")
	chain := Pair{CA: root.Cert, Cert: append(bytes.Clone(leaf.Cert), between.Cert...), Key: leaf.Key}
	if err := Judge(chain, []string{"host"}, both, now); err != nil {
		t.Error(err)
	}
	chain.Cert = leaf.Cert
	if err := Judge(chain, []string{"host"}, both, now); err == nil {
		t.Error("a link is missing, and nobody minds")
	}
}

// certifier makes an authority that may vouch for others, by itself or by another.
func certifier(t *testing.T, by *Pair) Pair {
	t.Helper()
	key, serial, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: serial.String()}, NotBefore: now.Add(-skew), NotAfter: now.Add(lifetimes.Authority),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	parent, signer := c, crypto.Signer(key)
	if by != nil {
		pair, err := tls.X509KeyPair(by.Cert, by.Key)
		if err != nil {
			t.Fatal(err)
		}
		parent, signer = pair.Leaf, pair.PrivateKey.(crypto.Signer)
	}
	p, err := encode(c, parent, key, signer)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"metastore.io/metastore/server/node"
)

// damages are files of a data dir, of either engine, and where a byte of them is
// changed.
var damages = map[string]struct {
	patterns []string
	offset   int64
}{
	"log":    {[]string{"log/*.log"}, 120},
	"engine": {[]string{"engine/*/*.sst", "engine/*/dump"}, 30},
}

// A member with a damaged file stops with an exit code of its own and names the
// place; the others serve on, and another member that takes its place gets all
// data.
func TestFaultsDamagedFile(t *testing.T) {
	for what, damage := range damages {
		t.Run(what, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, engine string) {
				members := newCluster(t, engine, 3, faultFlags...)
				startAll(members)
				h := startHistory(t, 6, members...)
				victim := others(members, leader(t, members))[0]
				rest := others(members, victim)
				file := waitFile(t, h, victim, damage.patterns)
				id := memberID(t, victim)
				victim.terminate()
				changeByte(t, file, damage.offset)
				victim.start()
				readAll(t, victim)
				if code := victim.exitCode(clientPatience); code != node.ExitCorrupt {
					t.Errorf("exit code %d, want %d", code, node.ExitCorrupt)
				}
				_, last, _ := strings.Cut(victim.out.String(), "metastore: ")
				if !strings.Contains(last, file) || !strings.Contains(last, "offset") || !strings.Contains(last, "replace it") {
					t.Errorf("it does not tell the place in %s, and what to do:\n%s", file, last)
				}
				h.progress(50)
				h.next()
				fresh := replace(t, victim, id, rest)
				h.verify(append(rest, fresh)...)
				checkHashes(t, append(rest, fresh))
			})
		})
	}
}

// waitFile waits until a member has a file of one of the kinds.
func waitFile(t *testing.T, h *history, m *member, patterns []string) (file string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); file == ""; {
		h.progress(50)
		for _, p := range patterns {
			if found, err := filepath.Glob(filepath.Join(m.dir, p)); err == nil && len(found) > 0 {
				file = found[0]
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has none of %v", m.dir, patterns)
		}
	}
	return file
}

func changeByte(t *testing.T, file string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], offset)
	b[0] ^= 1
	if err == nil {
		_, err = f.WriteAt(b[:], offset)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// readAll reads every key of a member, until it ends: what is damaged may be
// found by whoever reads it first.
func readAll(t *testing.T, m *member) {
	t.Helper()
	c := client(t, m)
	eventually(t, clientPatience, func() error {
		if !m.running() {
			return nil
		}
		_, err := c.Get(within(t, time.Second), "", clientv3.WithFromKey(), clientv3.WithSerializable())
		if err == nil {
			err = errors.New("everything was read")
		}
		return err
	})
}

// replace puts a fresh member in the place of one that is lost.
func replace(t *testing.T, lost *member, id uint64, rest []*member) *member {
	t.Helper()
	c := client(t, rest...)
	eventually(t, clientPatience, func() error {
		_, err := c.MemberRemove(within(t, 10*time.Second), id)
		if err != nil && !errors.Is(err, rpctypes.ErrUnhealthy) {
			t.Fatal(err)
		}
		return err
	})
	m := joiner(t, lost.name+"-again", lost.engine, rest)
	m.extra = lost.extra
	id = addLearner(t, c, m)
	m.start()
	promote(t, c, id)
	m.waitServing()
	return m
}

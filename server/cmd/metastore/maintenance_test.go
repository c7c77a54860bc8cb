package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func httpGet(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, 10*time.Second), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A downgrade that is allowed is known to every member, also after a restart;
// the cluster's version follows it, and comes back when it is cancelled.
func TestDowngrade(t *testing.T) {
	members := startCluster(t, engines()[0], 3)
	c := client(t, members...)
	ctx := within(t, time.Minute)
	allMembers := func(enabled, cluster string) {
		t.Helper()
		for _, m := range members {
			eventually(t, 20*time.Second, func() error {
				var v version.Versions
				if err := json.Unmarshal([]byte(httpGet(t, "http://"+m.client+"/version")), &v); err != nil {
					return err
				}
				s, err := c.Status(ctx, m.client)
				if err != nil {
					return err
				}
				if v.Cluster != cluster || v.Storage != cluster || s.StorageVersion != cluster || fmt.Sprint(s.DowngradeInfo.Enabled) != enabled || v.Server != "3.7.3" {
					return fmt.Errorf("%s tells %+v, %v", m.name, v, s)
				}
				return nil
			})
			if got := httpGet(t, "http://"+m.peer+"/downgrade/enabled"); got != enabled {
				t.Errorf("%s tells its peers %q", m.name, got)
			}
		}
	}
	allMembers("false", "3.7.0")
	if r, err := c.Downgrade(ctx, clientv3.DowngradeEnable, "3.6"); err != nil || r.Version != "3.7" {
		t.Fatalf("enable: %v, %v", r, err)
	}
	allMembers("true", "3.6.0")
	members[1].kill()
	members[1].start()
	members[1].waitServing()
	allMembers("true", "3.6.0")
	// A snapshot is one of etcd v3.6 now.
	if out, _, _ := command(t, "snapshot", "status", saveVersion(t, c, "3.6.0"), "-w", "json"); !strings.Contains(out, `"version":"3.6.0"`) {
		t.Errorf("the snapshot is %s", out)
	}
	if _, err := c.Downgrade(ctx, clientv3.DowngradeCancel, ""); err != nil {
		t.Fatal(err)
	}
	allMembers("false", "3.7.0")
}

package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/srv"
	"go.etcd.io/etcd/client/pkg/v3/types"
)

// token tells the IDs of clusters apart that have the same URLs.
func (c *Config) token() string {
	if len(c.Discovery.Spec.Endpoints) > 0 {
		return c.Discovery.Token
	}
	return c.InitialClusterToken
}

// discover fills InitialCluster in where DNS or another cluster is to tell it.
func (c *Config) discover(ctx context.Context) error {
	var found string
	var err error
	switch {
	case c.Discovery.SRV != "":
		found, err = c.discoverSRV()
	case len(c.Discovery.Spec.Endpoints) > 0 && c.InitialClusterState == "new":
		found, err = c.discoverMembers(ctx)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	c.Logger.Info("discovered the first members", "initial-cluster", found)
	c.InitialCluster = found
	return nil
}

// discoverSRV asks DNS for members with TLS and for such without.
func (c *Config) discoverSRV() (string, error) {
	d := &c.Discovery
	suffix := ""
	if d.SRVName != "" {
		suffix = "-" + d.SRVName
	}
	var members []string
	var errs []error
	for _, s := range []struct{ scheme, service string }{{"https", "etcd-server-ssl"}, {"http", "etcd-server"}} {
		found, err := srv.GetCluster(s.scheme, s.service+suffix, c.Name, d.SRV, types.URLs(c.AdvertisePeerURLs))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		members = append(members, found...)
	}
	if len(members) == 0 {
		return "", fmt.Errorf("error setting up initial cluster: %w", errors.Join(errs...))
	}
	list := strings.Join(members, ",")
	if named, err := types.NewURLsMap(list); err != nil {
		return "", fmt.Errorf("error setting up initial cluster: %w", err)
	} else if _, ok := named[c.Name]; !ok {
		return "", fmt.Errorf("error setting up initial cluster: cannot find local etcd member %q in SRV records", c.Name)
	}
	return list, nil
}

// discoverMembers registers this member in another cluster and waits there for
// the others.
func (c *Config) discoverMembers(ctx context.Context) (string, error) {
	self := types.URLsMap{c.Name: types.URLs(c.AdvertisePeerURLs)}
	id := memberID(self[c.Name].StringSlice(), c.token())
	r, err := openRegistry(c.Discovery, strconv.FormatUint(id, 16), c.Logger)
	if err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	defer r.close()
	list, err := r.join(ctx, self.String())
	if err != nil {
		return "", fmt.Errorf("failed to join discovery cluster: %w", err)
	}
	return list, checkDistinct(list)
}

// checkDistinct refuses a list in which two members have the same URL.
func checkDistinct(list string) error {
	members, err := types.NewURLsMap(list)
	if err != nil {
		return fmt.Errorf("discovery: invalid peer URL: %w", err)
	}
	seen := map[string]bool{}
	for _, urls := range members {
		for _, u := range urls.StringSlice() {
			if seen[u] {
				return fmt.Errorf("discovery cluster %s has duplicate url", list)
			}
			seen[u] = true
		}
	}
	return nil
}

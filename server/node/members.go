package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/pkg/v3/netutil"
	"go.uber.org/zap"
)

// initialMembers reads --initial-cluster: peer URLs by name, sorted.
func (c *Config) initialMembers() (map[string][]string, error) {
	list := c.InitialCluster
	if list == "" {
		var parts []string
		for _, u := range c.AdvertisePeerURLs {
			parts = append(parts, c.Name+"="+u.String())
		}
		list = strings.Join(parts, ",")
	}
	members := map[string][]string{}
	for _, part := range strings.Split(list, ",") {
		name, u, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" {
			return nil, refuse("initial-cluster", part, "name=URL pairs with commas between")
		}
		urls, err := ParseURLs("initial-cluster", u)
		if err != nil {
			return nil, err
		}
		if len(urls) != 1 {
			return nil, refuse("initial-cluster", part, "name=URL pairs with commas between")
		}
		if err := checkURL("initial-cluster", urls[0], false); err != nil {
			return nil, err
		}
		members[name] = append(members[name], urls[0].String())
	}
	for name := range members {
		slices.Sort(members[name])
	}
	return members, c.checkNamed(members)
}

// checkNamed wants this member in the list, with as many URLs as it advertises.
func (c *Config) checkNamed(members map[string][]string) error {
	own, ok := members[c.Name]
	if !ok {
		return refuse("initial-cluster", c.InitialCluster, fmt.Sprintf("a list that contains this member's name, %q,", c.Name))
	}
	if len(own) != len(c.AdvertisePeerURLs) {
		return c.refuseOwn(own)
	}
	return nil
}

func (c *Config) refuseOwn(own []string) error {
	return refuse("initial-cluster", strings.Join(own, ","),
		fmt.Sprintf("for %q what --initial-advertise-peer-urls says, %s,", c.Name, strings.Join(urlStrings(c.AdvertisePeerURLs), ",")))
}

// resolveTimeout bounds how long names are looked up again and again.
const resolveTimeout = 30 * time.Second

// checkOwn wants the URLs that this member advertises to be those of the list,
// or to lead to the same addresses.
func (c *Config) checkOwn(ctx context.Context, own []string) error {
	advertised := urlStrings(c.AdvertisePeerURLs)
	slices.Sort(advertised)
	if slices.Equal(own, advertised) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	if same, err := netutil.URLStringsEqual(ctx, zap.NewNop(), own, advertised); !same || err != nil {
		return errors.Join(c.refuseOwn(own), err)
	}
	return nil
}

func urlStrings(urls []url.URL) []string {
	out := make([]string, len(urls))
	for i, u := range urls {
		out[i] = u.String()
	}
	return out
}

package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// ClusterInfo is what a member tells to who wants to join.
type ClusterInfo struct {
	ClusterID string       `json:"cluster_id"` // hexadecimal
	Members   []MemberInfo `json:"members"`
}

// MemberInfo is one member of ClusterInfo. Name is empty until it has started.
type MemberInfo struct {
	ID       string   `json:"id"` // hexadecimal
	Name     string   `json:"name"`
	PeerURLs []string `json:"peer_urls"`
	Learner  bool     `json:"learner"`
}

// FetchCluster asks the peers, one after the other, for the cluster's members.
func FetchCluster(ctx context.Context, c TLS, urls []string) (ClusterInfo, error) {
	t := httpTransport(c, dialRolling)
	defer t.CloseIdleConnections()
	client := &http.Client{Transport: t, Timeout: 3 * time.Second}
	var errs []error
	for _, u := range urls {
		info, err := fetchCluster(ctx, client, c, u)
		if err == nil {
			return info, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", u, err))
	}
	return ClusterInfo{}, fmt.Errorf("ask for the cluster's members: %w", errors.Join(errs...))
}

func fetchCluster(ctx context.Context, client *http.Client, c TLS, url string) (ClusterInfo, error) {
	client, base, err := reach(client, c, url)
	if err != nil {
		return ClusterInfo{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String()+PathMembers, nil)
	if err != nil {
		return ClusterInfo{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return ClusterInfo{}, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCallBytes))
	if err != nil {
		return ClusterInfo{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return ClusterInfo{}, fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	var info ClusterInfo
	if err := json.Unmarshal(body, &info); err != nil {
		return ClusterInfo{}, fmt.Errorf("not a member of a MetaStore cluster: %w", err)
	}
	return info, nil
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"metastore.io/metastore/server/etcdfile"
	"metastore.io/metastore/server/node"
)

// readyTimeout is how long the server of a restore test may take to elect itself
// once it holds everything.
const readyTimeout = time.Minute

// serveOnce restores a snapshot, of which every byte was verified, into dir, runs a server on
// it and asks that for what it holds.
func serveOnce(ctx context.Context, file, dir string, revision int64, logger *slog.Logger) (h held, err error) {
	c, err := throwAway(dir, logger)
	if err != nil {
		return h, err
	}
	if err := node.Restore(ctx, c, node.RestoreOptions{File: file, Check: etcdfile.HashVerified}); err != nil {
		return h, err
	}
	n, err := node.Start(ctx, c)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, n.Stop(context.WithoutCancel(ctx))) }()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case <-n.Ready():
	case <-ctx.Done():
		return h, fmt.Errorf("the restored server is not ready: %w", ctx.Err())
	}
	got, err := n.Content(revision)
	return held{compactRevision: max(got.CompactRevision, 0), keys: got.Keys, hash: got.Hash}, err
}

// throwAway is a member that nobody is told of, alone on this machine.
func throwAway(dir string, logger *slog.Logger) (node.Config, error) {
	local, err := node.ParseURLs("listen", "http://127.0.0.1:0")
	if err != nil {
		return node.Config{}, err
	}
	c := node.DefaultConfig()
	c.Name, c.DataDir, c.Logger = "restore-test", dir, logger
	c.ListenClientURLs, c.ListenPeerURLs = local, local
	c.AdvertisePeerURLs = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	c.InitialCluster = c.Name + "=" + c.AdvertisePeerURLs[0].String()
	return c, nil
}

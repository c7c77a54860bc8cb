package backup

import (
	"context"
	"io"
	"net/url"
	"path/filepath"
	"strings"
)

// store is a destination. Names are paths with slashes. All methods may run
// concurrently. Errors have reasons.
type store interface {
	// check says whether the destination is there, and, when it is to be written
	// to, whether it can be, as far as that is told without writing a backup.
	check(ctx context.Context, write bool) error
	// put stores what r gives until its end; mostBytes is the most that it can
	// be. The name is visible, and durable, only when put returns nil. The
	// reader's error is returned as it is.
	put(ctx context.Context, name string, r io.Reader, mostBytes int64) error
	// open reads an object of the told size in bytes; NotFound when there is none.
	open(ctx context.Context, name string) (r io.ReadCloser, size int64, err error)
	// remove deletes all objects of a backup, the manifest first. None is fine.
	remove(ctx context.Context, name string) error
	// backups calls with the name of each backup that has a manifest, sorted.
	backups(ctx context.Context, found func(name string) error) error
	// local is the path of an object in this machine's file system, if it is.
	local(name string) (path string, ok bool)
	String() string
}

// Location is where backups are.
type Location struct {
	// URL is a folder, or s3://BUCKET/PREFIX.
	URL string
	S3  S3
}

// S3 says how S3-compatible storage is reached.
type S3 struct {
	// Endpoint is a URL; empty is Amazon's. CAFile replaces the system's CAs.
	Endpoint, Region, CAFile string
	// Credentials; without them objects are asked for anonymously.
	AccessKeyID, SecretAccessKey, SessionToken string
}

func (l Location) store() (store, error) {
	if l.URL == "" {
		return nil, failf(InvalidArgument, "no destination is given: a folder or s3://BUCKET/PREFIX is allowed")
	}
	if !strings.Contains(l.URL, "://") {
		dir, err := filepath.Abs(l.URL)
		if err != nil {
			return nil, failf(InvalidArgument, "the folder %s: %w", l.URL, err)
		}
		return &folder{dir: dir}, nil
	}
	u, err := url.Parse(l.URL)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, failf(InvalidArgument, "the destination %s is not valid: a folder or s3://BUCKET/PREFIX is allowed", l.URL)
	}
	return newBucket(u.Host, strings.Trim(u.Path, "/"), l.S3)
}

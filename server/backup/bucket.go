package backup

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	defaultEndpoint = "https://s3.amazonaws.com"
	// partBytes is the size of the parts of an upload, one of which is in memory;
	// of a snapshot of more than maxParts of them the parts are larger.
	partBytes = 16 << 20
	maxParts  = 9_000
	// storageRetries is how often a request that failed on its way is sent.
	storageRetries = 4
	// replyTimeout is how long the storage may take to begin a reply, and
	// cleanTimeout what is given to take back what was half uploaded.
	replyTimeout = time.Minute
	cleanTimeout = 15 * time.Second
)

// bucket is a destination in S3-compatible storage.
type bucket struct {
	client       *minio.Client
	name, prefix string
}

func newBucket(name, prefix string, o S3) (*bucket, error) {
	endpoint := o.Endpoint
	if endpoint == "" {
		endpoint = defaultEndpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, failf(InvalidArgument, "--s3-endpoint=%s is not valid: a URL such as https://s3.example.com is allowed", o.Endpoint)
	}
	transport, err := o.transport(u.Scheme == "https")
	if err != nil {
		return nil, err
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(o.AccessKeyID, o.SecretAccessKey, o.SessionToken),
		Secure: u.Scheme == "https", Region: o.Region, Transport: transport, MaxRetries: storageRetries,
	})
	if err != nil {
		return nil, failf(InvalidArgument, "--s3-endpoint=%s: %w", o.Endpoint, err)
	}
	return &bucket{client: client, name: name, prefix: prefix}, nil
}

func (o S3) transport(secure bool) (http.RoundTripper, error) {
	t, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, withReason(Failed, err)
	}
	t.ResponseHeaderTimeout = replyTimeout
	if o.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, failf(InvalidArgument, "--s3-ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, failf(InvalidArgument, "--s3-ca-file=%s is not valid: it has no certificate", o.CAFile)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return t, nil
}

func (b *bucket) String() string {
	return strings.TrimSuffix("s3://"+b.name+"/"+b.prefix, "/")
}

func (b *bucket) key(name string) string { return path.Join(b.prefix, name) }

func (b *bucket) local(string) (string, bool) { return "", false }

// check lists, which unlike a look at the bucket alone says what is wrong.
func (b *bucket) check(ctx context.Context, _ bool) error {
	for o := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix, MaxKeys: 1}) {
		if o.Err != nil {
			return b.failure("look into the bucket", o.Err)
		}
		break
	}
	return nil
}

// put lets the storage show the object only when the upload is complete.
func (b *bucket) put(ctx context.Context, name string, r io.Reader, mostBytes int64) error {
	source := &sourceReader{ctx: ctx, r: r}
	o := minio.PutObjectOptions{ContentType: "application/octet-stream"}
	size := int64(-1)
	if whole, ok := r.(*bytes.Reader); ok {
		size = int64(whole.Len())
	} else {
		o.PartSize = uint64(max(partBytes, (mostBytes/maxParts/partBytes+1)*partBytes))
	}
	_, err := b.client.PutObject(ctx, b.name, b.key(name), source, size, o)
	if err == nil {
		return nil
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if size < 0 {
		_ = b.client.RemoveIncompleteUpload(clean, b.name, b.key(name)) // what failed first is told
	}
	if source.err != nil {
		return withReason(Failed, source.err)
	}
	return b.failure("upload "+b.key(name), err)
}

func (b *bucket) open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	o, err := b.client.GetObject(ctx, b.name, b.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, 0, b.failure("download "+b.key(name), err)
	}
	info, err := o.Stat()
	if err != nil {
		return nil, 0, errors.Join(b.failure("download "+b.key(name), err), o.Close())
	}
	return o, info.Size, nil
}

func (b *bucket) remove(ctx context.Context, name string) error {
	keys := []string{b.key(path.Join(name, manifestFile))}
	for o := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: b.key(name) + "/" + snapshotFile}) {
		if o.Err != nil {
			return b.failure("list", o.Err)
		}
		keys = append(keys, o.Key)
	}
	for _, key := range keys {
		if err := b.client.RemoveObject(ctx, b.name, key, minio.RemoveObjectOptions{}); err != nil {
			return b.failure("remove "+key, err)
		}
	}
	for o := range b.client.ListIncompleteUploads(ctx, b.name, b.key(name)+"/", true) {
		if o.Err != nil {
			return b.failure("list uploads", o.Err)
		}
		if err := b.client.RemoveIncompleteUpload(ctx, b.name, o.Key); err != nil {
			return b.failure("remove the upload of "+o.Key, err)
		}
	}
	return nil
}

func (b *bucket) backups(ctx context.Context, found func(name string) error) error {
	prefix := b.prefix
	if prefix != "" {
		prefix += "/"
	}
	var names []string
	for o := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return b.failure("list", o.Err)
		}
		if name, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, prefix), "/"+manifestFile); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := found(name); err != nil {
			return err
		}
	}
	return nil
}

// storageReasons are those of S3's error codes.
var storageReasons = map[string]Reason{
	"NoSuchBucket": DestinationMissing,
	"NoSuchKey":    NotFound, "NotFound": NotFound,
	"AccessDenied": AccessDenied, "AllAccessDisabled": AccessDenied, "InvalidAccessKeyId": AccessDenied,
	"SignatureDoesNotMatch": AccessDenied, "ExpiredToken": AccessDenied, "InvalidToken": AccessDenied,
	"XAdminUserNotFound": AccessDenied, "InvalidTokenId": AccessDenied, "AuthorizationHeaderMalformed": AccessDenied, "AccountProblem": AccessDenied,
	"QuotaExceeded": DestinationFull, "InsufficientCapacity": DestinationFull, "XMinioStorageFull": DestinationFull,
	"XMinioAdminBucketQuotaExceeded": DestinationFull, "EntityTooLarge": DestinationFull,
	"MethodNotAllowed": DestinationReadOnly, "XMinioReadOnly": DestinationReadOnly,
	"InvalidBucketName": InvalidArgument, "InvalidObjectName": InvalidArgument,
	"SlowDown": Unreachable, "ServiceUnavailable": Unreachable, "InternalError": Unreachable,
}

// failure gives the storage's error its reason.
func (b *bucket) failure(what string, err error) error {
	response := minio.ToErrorResponse(err) // which looks at no wrapped error
	err = fmt.Errorf("%s in %s: %w", what, b, err)
	reason, known := storageReasons[response.Code]
	var network net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case known:
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		reason = AccessDenied
	case response.StatusCode == http.StatusInsufficientStorage:
		reason = DestinationFull
	case errors.Is(err, context.Canceled):
		reason = Failed
	case errors.As(err, &certificate), errors.As(err, &network), response.StatusCode >= 500:
		reason = Unreachable
	default:
		reason = Failed
	}
	return &Error{Reason: reason, Err: err}
}

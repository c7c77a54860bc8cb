package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"crypto/tls"
	"crypto/x509"
	"net/http"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// s3Server is a real S3 server on a folder, with TLS.
type s3Server struct {
	t         *testing.T
	address   string
	ca        string
	client    *minio.Client
	cmd       *exec.Cmd
	out       *output
	folder    string
	certs     string
	accessKey string
}

const s3Secret = "secret-key-of-the-tests"

// s3Binary is the server's program: from the cache where make has put it, else
// built here.
var s3Binary = sync.OnceValues(func() (string, error) {
	cache := os.Getenv("METASTORE_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache", "metastore")
	}
	program := filepath.Join(cache, "tools", "versitygw")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	cmd := exec.Command("go", "build", "-o", program, "github.com/versity/versitygw/cmd/versitygw")
	cmd.Dir = "../../../hack/s3server"
	cmd.Stderr = os.Stderr
	return program, cmd.Run()
})

// startS3 starts a server with one bucket, "backups".
func startS3(t *testing.T) *s3Server {
	t.Helper()
	program, err := s3Binary()
	if err != nil {
		t.Fatalf("build the S3 server: %v", err)
	}
	certs := certificates(t, "s3")
	s := &s3Server{
		t: t, address: freeAddress(t), out: &output{}, folder: t.TempDir(), certs: certs, accessKey: "tests",
		ca: filepath.Join(certs, "ca.pem"),
	}
	s.cmd = exec.Command(program, "--access", s.accessKey, "--secret", s3Secret, "--port", s.address, "--quiet",
		"--cert", filepath.Join(certs, "s3.pem"), "--key", filepath.Join(certs, "s3.key"), "posix", "--sidecar", t.TempDir(), s.folder)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	s.connect()
	eventually(t, 30*time.Second, func() error {
		return s.client.MakeBucket(within(t, 5*time.Second), "backups", minio.MakeBucketOptions{})
	})
	return s
}

func (s *s3Server) kill() {
	_ = s.cmd.Process.Kill() // it may be dead already
	_ = s.cmd.Wait()
}

func (s *s3Server) connect() {
	ca, err := os.ReadFile(s.ca)
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	s.client, err = minio.New(s.address, &minio.Options{
		Creds: credentials.NewStaticV4(s.accessKey, s3Secret, ""), Secure: true, Region: "us-east-1", MaxRetries: 1,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// use gives the commands of the test the server's credentials.
func (s *s3Server) use() {
	s.t.Setenv("AWS_ACCESS_KEY_ID", s.accessKey)
	s.t.Setenv("AWS_SECRET_ACCESS_KEY", s3Secret)
}

// args are the flags with which a command reaches the server.
func (s *s3Server) args(address string) []string {
	return []string{"--s3-endpoint", "https://" + address, "--s3-region", "us-east-1", "--s3-ca-file", s.ca}
}

// wantEmpty wants that neither objects nor uploads are there.
func (s *s3Server) wantEmpty() {
	s.t.Helper()
	ctx := within(s.t, 10*time.Second)
	for o := range s.client.ListObjects(ctx, "backups", minio.ListObjectsOptions{Recursive: true}) {
		s.t.Errorf("the bucket holds %s: %v", o.Key, o.Err)
	}
	for u := range s.client.ListIncompleteUploads(ctx, "backups", "", true) {
		s.t.Errorf("the bucket has an upload of %s: %v", u.Key, u.Err)
	}
}

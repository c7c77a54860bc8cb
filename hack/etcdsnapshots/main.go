// Command etcdsnapshots records a snapshot of the etcd that it is given, and what
// that etcd answers, for the test that restores snapshots of older versions. make
// etcd-snapshots builds those versions and runs it.
package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func main() {
	binary := flag.String("etcd", "", "etcd's binary")
	out := flag.String("out", "", "the files to write, without .db.gz and .json")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := run(ctx, *binary, *out); err != nil {
		fmt.Fprintln(os.Stderr, "etcdsnapshots: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, out string) (err error) {
	dir, err := os.MkdirTemp("", "etcdsnapshots")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	client, peer, err := twoAddresses()
	if err != nil {
		return err
	}
	etcd := exec.CommandContext(ctx, binary, "--name=old", "--data-dir="+dir+"/data", "--log-level=error",
		"--listen-client-urls=http://"+client, "--advertise-client-urls=http://"+client,
		"--listen-peer-urls=http://"+peer, "--initial-advertise-peer-urls=http://"+peer, "--initial-cluster=old=http://"+peer)
	etcd.Stderr = os.Stderr
	if err := etcd.Start(); err != nil {
		return err
	}
	defer func() { _ = etcd.Process.Kill(); _ = etcd.Wait() }() // the state of it says nothing
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{client}, DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	f := filler{ctx: ctx, c: c}
	f.fill()
	if f.err != nil {
		return fmt.Errorf("fill: %w", f.err)
	}
	a, err := ask(ctx, c, client, f)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if err := writeJSON(out+".json", a); err != nil {
		return err
	}
	return save(ctx, c, out+".db.gz")
}

func twoAddresses() (client, peer string, err error) {
	var at [2]string
	for i := range at {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", err
		}
		defer func() { _ = l.Close() }() // only its address was wanted
		at[i] = l.Addr().String()
	}
	return at[0], at[1], nil
}

func writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

func save(ctx context.Context, c *clientv3.Client, name string) (err error) {
	r, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = io.Copy(z, r)
	return errors.Join(err, z.Close(), f.Close())
}

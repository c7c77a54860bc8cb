// Command oldclients runs clients of older versions, and those of other languages,
// against a member of each engine, and prints a line for each.
//
//	oldclients -server bin/metastore -engine rocksdb NAME=COMMAND ...
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	server := flag.String("server", "bin/metastore", "the server's program")
	engine := flag.String("engine", "rocksdb", "its storage engine")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := run(ctx, *server, *engine, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "oldclients: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, server, engine string, clients []string) (err error) {
	dir, err := os.MkdirTemp("", "oldclients")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	client, err := freeAddress()
	if err != nil {
		return err
	}
	member := exec.CommandContext(ctx, server, "--data-dir="+dir+"/data", "--storage-engine="+engine, "--log-level=error",
		"--listen-client-urls=http://"+client, "--advertise-client-urls=http://"+client,
		"--listen-peer-urls=http://127.0.0.1:0", "--initial-advertise-peer-urls=http://127.0.0.1:0", "--initial-cluster=default=http://127.0.0.1:0")
	member.Stderr = os.Stderr
	if err := member.Start(); err != nil {
		return err
	}
	defer func() { _ = member.Process.Kill(); _ = member.Wait() }() // its data is thrown away
	if err := awaitReady(ctx, client); err != nil {
		return err
	}
	for _, c := range clients {
		name, command, _ := strings.Cut(c, "=")
		begin := time.Now()
		words := append(strings.Fields(command), client)
		out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s on %s: %w\n%s", name, engine, err, out)
		}
		fmt.Printf("%-24s %-8s passed in %.1f s\n", name, engine, time.Since(begin).Seconds())
	}
	return nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// awaitReady asks until the member serves.
func awaitReady(ctx context.Context, addr string) error {
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = resp.Body.Close() // only the status counts
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the member is not ready: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

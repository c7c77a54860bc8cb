package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	startLimit = 30 * time.Second
	stopLimit  = 10 * time.Second
	// pollInterval is between two questions whether a server is healthy.
	pollInterval = 20 * time.Millisecond
)

// server is one of those that are compared.
type server struct {
	name, binary string
	flags        []string
}

// equalFlags are the same for all servers.
var equalFlags = []string{
	"--log-level=error", "--quota-backend-bytes=8589934592", "--heartbeat-interval=100", "--election-timeout=1000",
	"--initial-cluster-state=new", "--initial-cluster-token=bench", "--enable-pprof",
}

// member is one process of a server.
type member struct {
	client, dir string
	cmd         *exec.Cmd
	ended       chan struct{} // closed when it has ended
}

// start starts a cluster with its data below dir and waits until all members
// are healthy. What it started is to be stopped, also with an error.
func (s *server) start(ctx context.Context, n int, dir string, pin bool) ([]*member, error) {
	addrs, err := freeAddrs(2 * n)
	if err != nil {
		return nil, err
	}
	var cluster []string
	for i := range n {
		cluster = append(cluster, fmt.Sprintf("m%d=http://%s", i, addrs[n+i]))
	}
	var list []*member
	for i := range n {
		m := &member{client: addrs[i], dir: filepath.Join(dir, fmt.Sprint("m", i)), ended: make(chan struct{})}
		client, peer := "http://"+addrs[i], "http://"+addrs[n+i]
		argv := append([]string{s.binary, fmt.Sprintf("--name=m%d", i), "--data-dir=" + m.dir,
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=" + strings.Join(cluster, ",")}, equalFlags...)
		m.cmd = command(context.Background(), pin, serverCore, append(argv, s.flags...))
		if err := m.run(m.dir + ".log"); err != nil {
			return list, err
		}
		list = append(list, m)
	}
	for _, m := range list {
		if err := m.waitHealthy(ctx); err != nil {
			return list, err
		}
	}
	return list, nil
}

// Cores of a pinned run.
const (
	serverCore = "0"
	loaderCore = "1"
)

// command runs argv, pinned to a core with one thread of Go's scheduler, or not.
func command(ctx context.Context, pin bool, core string, argv []string) *exec.Cmd {
	if pin {
		argv = append([]string{"taskset", "-c", core}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	if pin {
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	}
	return cmd
}

func (m *member) run(logName string) error {
	log, err := os.Create(logName)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = m.cmd.Wait() // how it ended does not matter: it should not have
		close(m.ended)
	}()
	return nil
}

// waitHealthy waits for a leader that the member knows.
func (m *member) waitHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for !m.healthy(ctx) {
		select {
		case <-poll.C:
		case <-m.ended:
			text, err := os.ReadFile(m.dir + ".log")
			return errors.Join(fmt.Errorf("the server ended: %s", text), err)
		case <-ctx.Done():
			return fmt.Errorf("the server is not healthy: %w", ctx.Err())
		}
	}
	return nil
}

func (m *member) healthy(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.client+"/health", nil)
	if err != nil {
		return false
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer reply.Body.Close()
	var answer struct{ Health string }
	return json.NewDecoder(reply.Body).Decode(&answer) == nil && answer.Health == "true"
}

// stop ends the members, those that do not obey by force.
func stop(list []*member) {
	for _, m := range list {
		_ = m.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	limit := time.After(stopLimit)
	for _, m := range list {
		select {
		case <-m.ended:
		case <-limit:
			_ = m.cmd.Process.Kill()
			<-m.ended
		}
	}
}

// freeAddrs are addresses that nobody listens on, for now.
func freeAddrs(n int) (addrs []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at once, so that none comes twice
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// folderBytes is what the files below dir occupy.
func folderBytes(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a file that is gone occupies nothing
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum
}

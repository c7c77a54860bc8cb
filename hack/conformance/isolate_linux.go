package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideWord, as the first argument, makes this program process 1 of a test's
// namespaces.
const insideWord = "inside-namespaces"

// isolated is a command that runs this program in namespaces of its own, where
// it becomes process 1, shows private as one of the folders that every system
// has, and runs argv in dir below it. All of it ends with the context, and with
// this process.
func isolated(ctx context.Context, private, shownAs, dir string, argv []string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := exec.CommandContext(ctx, self, append([]string{insideWord, private, shownAs, dir}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// runInside is process 1 of the namespaces; it returns the command's exit code.
func runInside(args []string) int {
	if len(args) < 4 {
		fmt.Fprintln(os.Stderr, "conformance: too few arguments for "+insideWord)
		return 2
	}
	private, shownAs, dir, argv := args[0], args[1], args[2], args[3:]
	if err := enter(private, shownAs); err != nil {
		fmt.Fprintln(os.Stderr, "conformance: set up namespaces:", err)
		return 2
	}
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Dir: dir, Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 2
	}
	return reap(p.Pid)
}

// enter mounts what the namespaces need and brings up the loopback device.
func enter(private, shownAs string) error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount(private, shownAs, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s as %s: %w", private, shownAs, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written to it
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring up the loopback device: %w", err)
	}
	return nil
}

// reap waits for a child, and on the way for the orphans that fall to process 1.
func reap(pid int) int {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "conformance: wait:", err)
			return 2
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		case got == pid:
			return status.ExitStatus()
		}
	}
}

// shownFolder is a folder of every system that has a short name, for paths of
// sockets, and that hides nothing that the tests need.
func shownFolder(needed ...string) (string, error) {
	for _, dir := range []string{"/mnt", "/srv", "/media", "/opt"} {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		hides := false
		for _, n := range needed {
			hides = hides || strings.HasPrefix(n, dir+"/")
		}
		if !hides {
			return dir, nil
		}
	}
	return "", errors.New("no folder to show a test's files in: each of /mnt, /srv, /media and /opt is in use or missing")
}

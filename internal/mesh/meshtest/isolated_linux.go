package meshtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"sentinel-envoy/internal/envoybin"
)

// envIsolated is set in the process that Isolated starts.
const envIsolated = "SENTINEL_MESH_ISOLATED"

// Needs are what the tests of a package fetch from the network.
type Needs struct {
	Programs []string // by the names that Program takes
	Envoy    string   // a release
}

func (n Needs) fetch() error {
	for _, name := range n.Programs {
		if _, err := build(context.Background(), name); err != nil {
			return err
		}
	}
	_, err := envoybin.Find(context.Background(), envoybin.Options{Version: n.Envoy, Log: os.Stderr})
	return err
}

// Isolated is Run in a network namespace of the process's own, with nothing but a loopback interface: what the programs
// under test bind there reaches nobody, whatever address they take, and their fixed ports are free. Mounts are the
// process's own, too. It needs root, or a kernel that lets users have namespaces.
func Isolated(m *testing.M, needs Needs) int {
	if os.Getenv(envIsolated) != "" {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "loopback interface: %v: %s\n", err, out)
			return 1
		}
		return Run(m)
	}
	if err := needs.fetch(); err != nil { // there is no network in there
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), envIsolated+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "a network namespace:", err)
		return 1
	}
	return 0
}

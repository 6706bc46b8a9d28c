package quickstart

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"syscall"

	psnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// A Port is one loopback port that a command needs, and how the user changes it.
type Port struct {
	Number   int
	Use      string // what listens there
	Flag     string // of the command
	Target   string // of make, which runs the command
	Variable string // of that target
}

// A listenPort is a port of `sentinel run`.
type listenPort struct {
	Port

	place string // where the bootstrap has its number
}

func (p Ports) list() []listenPort {
	port := func(n int, use, place, flag, variable string) listenPort {
		return listenPort{Port{n, use, flag, "run", variable}, place}
	}
	return []listenPort{
		port(p.HTTP, "HTTP listener", placeHTTP, "http-port", "HTTP_PORT"),
		port(p.TCP, "TCP listener", placeTCP, "tcp-port", "TCP_PORT"),
		port(p.Admin, "admin interface", placeAdmin, "admin-port", "ADMIN_PORT"),
		port(p.Upstream, "service behind Envoy", placeUpstream, "upstream-port", "UPSTREAM_PORT"),
	}
}

// CheckPorts returns nil if all ports are distinct and free. Otherwise the error has a line for each that is not.
//
// Envoy cannot be left to find out: its listeners use SO_REUSEPORT, so two Envoys of one user would silently share a port.
func CheckPorts(ctx context.Context, ports []Port) error {
	var errs []error
	usedBy := map[int]string{}
	for _, p := range ports {
		if other, taken := usedBy[p.Number]; taken {
			errs = append(errs, fmt.Errorf("port %d is given to both the %s and the %s. %s", p.Number, other, p.Use, p.change()))
			continue
		}
		usedBy[p.Number] = p.Use
		if err := checkPort(ctx, p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// numbers are the ports without their places.
func numbers(ports []listenPort) []Port {
	bare := make([]Port, len(ports))
	for i, p := range ports {
		bare[i] = p.Port
	}
	return bare
}

func checkPort(ctx context.Context, p Port) error {
	if p.Number < 1 || p.Number > 65535 {
		return fmt.Errorf("-%s %d: a port is 1 to 65535", p.Flag, p.Number)
	}
	l, err := net.Listen("tcp4", loopback(p.Number))
	if err == nil {
		return l.Close()
	}
	return fmt.Errorf("the %s cannot have port %d: %w%s. %s", p.Use, p.Number, reason(err), owner(ctx, p.Number), p.change())
}

func (p Port) change() string {
	return fmt.Sprintf("To use another: -%s N, or make %s %s=N", p.Flag, p.Target, p.Variable)
}

// reason strips what net.Listen wraps around the system's own error.
func reason(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// owner says which process listens on a local TCP port, as " by …", or nothing where the system does not tell.
func owner(ctx context.Context, port int) string {
	conns, err := psnet.ConnectionsWithContext(ctx, "tcp")
	if err != nil {
		return ""
	}
	for _, c := range conns {
		if c.Status != "LISTEN" || int(c.Laddr.Port) != port || c.Pid == 0 {
			continue
		}
		by := fmt.Sprintf(" by process %d", c.Pid)
		proc, err := process.NewProcessWithContext(ctx, c.Pid)
		if err != nil {
			return by
		}
		exe, err := proc.ExeWithContext(ctx)
		if err != nil {
			return by
		}
		by += ", " + exe
		if name := filepath.Base(exe); name == "envoy" || name == "sentinel" {
			by += " (another `make run` or `make demo`?)"
		}
		return by
	}
	return ""
}

func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

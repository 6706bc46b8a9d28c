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

// A listenPort is one port that a run needs, and how the user changes it.
type listenPort struct {
	port     int
	use      string // what listens there
	place    string // where the bootstrap has its number
	flag     string // flag of `sentinel run`
	variable string // variable of `make run`
}

func (p Ports) list() []listenPort {
	return []listenPort{
		{p.HTTP, "HTTP listener", placeHTTP, "http-port", "HTTP_PORT"},
		{p.TCP, "TCP listener", placeTCP, "tcp-port", "TCP_PORT"},
		{p.Admin, "admin interface", placeAdmin, "admin-port", "ADMIN_PORT"},
		{p.Upstream, "service behind Envoy", placeUpstream, "upstream-port", "UPSTREAM_PORT"},
	}
}

// checkPorts returns nil if all ports are distinct and free. Otherwise the error has a line for each that is not.
//
// Envoy cannot be left to find out: its listeners use SO_REUSEPORT, so two Envoys of one user would silently share a port.
func checkPorts(ctx context.Context, ports []listenPort) error {
	var errs []error
	usedBy := map[int]string{}
	for _, p := range ports {
		if other, taken := usedBy[p.port]; taken {
			errs = append(errs, fmt.Errorf("port %d is given to both the %s and the %s. %s", p.port, other, p.use, p.change()))
			continue
		}
		usedBy[p.port] = p.use
		if err := checkPort(ctx, p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func checkPort(ctx context.Context, p listenPort) error {
	if p.port < 1 || p.port > 65535 {
		return fmt.Errorf("-%s %d: a port is 1 to 65535", p.flag, p.port)
	}
	l, err := net.Listen("tcp4", loopback(p.port))
	if err == nil {
		return l.Close()
	}
	return fmt.Errorf("the %s cannot have port %d: %w%s. %s", p.use, p.port, reason(err), owner(ctx, p.port), p.change())
}

func (p listenPort) change() string {
	return fmt.Sprintf("To use another: -%s N, or make run %s=N", p.flag, p.variable)
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
			by += " (another `make run`?)"
		}
		return by
	}
	return ""
}

func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// rateLimitPackage is the server of Envoy's own rate limit service.
	rateLimitPackage = "github.com/envoyproxy/ratelimit/src/service_cmd@v1.4.1-0.20260122083618-3fb702589d36"
	// rateLimitDomain, with the descriptors generic_key=unreached and generic_key=control, is what the service limits.
	rateLimitDomain  = "bench"
	rateLimitCluster = "ratelimit"

	serviceTimeout = 20 * time.Second
	serviceGrace   = 2 * time.Second
)

// rateLimitService is envoyproxy/ratelimit with a Redis behind it. Both speak over Unix sockets: what it costs to reach a
// service on another machine is not in its figures.
type rateLimitService struct {
	socket  string
	daemons []*daemon
}

// startRateLimitService builds envoyproxy/ratelimit and runs it in dir. The error says what is missing.
func startRateLimitService(ctx context.Context, dir string) (*rateLimitService, error) {
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, err
	}
	server, err := buildRateLimit(ctx, dir)
	if err != nil {
		return nil, err
	}
	configuration := filepath.Join(dir, "ratelimit", "config")
	if err := os.MkdirAll(configuration, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(configuration, "bench.yaml"), []byte(rateLimitRules()), 0o600); err != nil {
		return nil, err
	}
	s := &rateLimitService{socket: filepath.Join(dir, "ratelimit.sock")}
	redisSocket := filepath.Join(dir, "redis.sock")
	if err := s.start(ctx, redisSocket, exec.Command(redis,
		"--port", "0", "--unixsocket", redisSocket, "--save", "", "--appendonly", "no", "--dir", dir)); err != nil {
		return nil, err
	}
	cmd := exec.Command(server)
	cmd.Env = append(os.Environ(),
		"REDIS_SOCKET_TYPE=unix", "REDIS_URL="+redisSocket, "GRPC_UDS="+s.socket, "RUNTIME_ROOT="+dir,
		"RUNTIME_SUBDIRECTORY=ratelimit", "RUNTIME_WATCH_ROOT=false", "USE_STATSD=false", "LOG_LEVEL=warn",
		"HOST=127.0.0.1", "PORT=0", "DEBUG_HOST=127.0.0.1", "DEBUG_PORT=0")
	if err := s.start(ctx, s.socket, cmd); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// buildRateLimit builds the service outside this module, which does not depend on it.
func buildRateLimit(ctx context.Context, dir string) (string, error) {
	log.Printf("building %s", rateLimitPackage)
	cmd := exec.CommandContext(ctx, "go", "install", rateLimitPackage)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", rateLimitPackage, err, out)
	}
	return filepath.Join(dir, "service_cmd"), nil
}

// rateLimitRules is the service's configuration.
func rateLimitRules() string {
	return fmt.Sprintf(`domain: %s
descriptors:
- {key: generic_key, value: unreached, rate_limit: {unit: second, requests_per_unit: %d}}
- {key: generic_key, value: control, rate_limit: {unit: second, requests_per_unit: %d}}
`, rateLimitDomain, unreached, controlThreshold)
}

// cluster is how Envoy reaches the service.
func (s *rateLimitService) cluster() map[string]any {
	return map[string]any{
		"name": rateLimitCluster,
		"type": "STATIC",
		"load_assignment": map[string]any{
			"cluster_name": rateLimitCluster,
			"endpoints": []any{map[string]any{"lb_endpoints": []any{map[string]any{
				"endpoint": map[string]any{"address": map[string]any{"pipe": map[string]any{"path": s.socket}}},
			}}}},
		},
		"typed_extension_protocol_options": map[string]any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": map[string]any{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": map[string]any{"http2_protocol_options": map[string]any{}},
			},
		},
	}
}

// rateLimitFilter asks the service about a descriptor, and refuses what it cannot answer.
func rateLimitFilter(descriptor string) map[string]any {
	action := map[string]any{"generic_key": map[string]any{"descriptor_value": descriptor}}
	return map[string]any{
		"name": "envoy.filters.http.ratelimit",
		"typed_config": map[string]any{
			"@type":             "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
			"domain":            rateLimitDomain,
			"failure_mode_deny": true,
			"timeout":           "5s",
			"rate_limits":       []any{map[string]any{"actions": []any{action}}},
			"rate_limit_service": map[string]any{
				"transport_api_version": "V3",
				"grpc_service":          map[string]any{"envoy_grpc": map[string]any{"cluster_name": rateLimitCluster}},
			},
		},
	}
}

// start runs a command of the service until it listens on a Unix socket.
func (s *rateLimitService) start(ctx context.Context, socket string, cmd *exec.Cmd) error {
	d, err := startDaemon(cmd, socket+".log")
	if err != nil {
		return err
	}
	s.daemons = append(s.daemons, d)
	if err := d.waitFor(ctx, socket); err != nil {
		s.stop()
		return err
	}
	return nil
}

// stop ends the service, the last started first.
func (s *rateLimitService) stop() {
	for len(s.daemons) > 0 {
		last := len(s.daemons) - 1
		s.daemons[last].stop()
		s.daemons = s.daemons[:last]
	}
}

// daemon is a process that serves until it is stopped.
type daemon struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// startDaemon runs a command with its output in a file.
func startDaemon(cmd *exec.Cmd, logFile string) (*daemon, error) {
	output, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer output.Close() // the process has its own descriptor
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &daemon{cmd: cmd, log: logFile, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(d.ended)
	}()
	return d, nil
}

// waitFor returns when something listens on a Unix socket.
func (d *daemon) waitFor(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-d.ended:
			return fmt.Errorf("%s ended (%v):\n%s", d.cmd.Path, d.cmd.ProcessState, d.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w:\n%s", d.cmd.Path, ctx.Err(), d.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of what the process wrote.
func (d *daemon) tail() string {
	const most = 2000
	f, err := os.Open(d.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}

// stop ends the process.
func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-d.ended:
	case <-time.After(serviceGrace):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
}

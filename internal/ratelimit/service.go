// Package ratelimit runs envoyproxy/ratelimit with a Redis behind it, for tests and measurements. It is built from a module of
// its own, which nothing else depends on.
package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"sentinel-envoy/internal/envoytest"
)

const (
	// server is the package in the module's tool directive.
	server = "github.com/envoyproxy/ratelimit/src/service_cmd"

	serviceTimeout = 20 * time.Second
	serviceGrace   = 2 * time.Second
)

// ErrNoRedis means that there is no redis-server on this machine.
var ErrNoRedis = errors.New("no redis-server: Debian has it in the package of that name")

// Service is envoyproxy/ratelimit with a Redis behind it. Both speak over Unix sockets: what it costs to reach a service on
// another machine is not in figures that are measured with it.
type Service struct {
	socket        string
	tls           *TLS
	redis, server *daemon
	// commands start them again.
	startRedis, startServer func(ctx context.Context) (*daemon, error)
}

// TLS are the files of a certificate by which the service is known, all in PEM. CA has signed it, for Name.
type TLS struct{ Cert, Key, CA, Name string }

// Start runs both in dir, with the service's configuration in YAML. The error says what is missing.
func Start(ctx context.Context, dir, rules string) (*Service, error) {
	return StartTLS(ctx, dir, rules, nil)
}

// StartTLS is Start for a service that speaks TLS, unless secured is nil.
func StartTLS(ctx context.Context, dir, rules string, secured *TLS) (*Service, error) {
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNoRedis
	}
	binary, err := build(ctx)
	if err != nil {
		return nil, err
	}
	configuration := filepath.Join(dir, "ratelimit", "config")
	if err := os.MkdirAll(configuration, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(configuration, "rules.yaml"), []byte(rules), 0o600); err != nil {
		return nil, err
	}
	s := &Service{socket: filepath.Join(dir, "ratelimit.sock"), tls: secured}
	redisSocket := filepath.Join(dir, "redis.sock")
	s.startRedis = func(ctx context.Context) (*daemon, error) {
		return start(ctx, redisSocket, exec.Command(redis,
			"--port", "0", "--unixsocket", redisSocket, "--save", "", "--appendonly", "no", "--dir", dir))
	}
	s.startServer = func(ctx context.Context) (*daemon, error) {
		cmd := exec.Command(binary)
		cmd.Env = append(os.Environ(),
			"REDIS_SOCKET_TYPE=unix", "REDIS_URL="+redisSocket, "GRPC_UDS="+s.socket, "RUNTIME_ROOT="+dir,
			"RUNTIME_SUBDIRECTORY=ratelimit", "RUNTIME_WATCH_ROOT=false", "USE_STATSD=false", "LOG_LEVEL=warn",
			"HOST=127.0.0.1", "PORT=0", "DEBUG_HOST=127.0.0.1", "DEBUG_PORT=0")
		if secured != nil {
			cmd.Env = append(cmd.Env, "GRPC_SERVER_USE_TLS=true", "GRPC_SERVER_TLS_CERT="+secured.Cert, "GRPC_SERVER_TLS_KEY="+secured.Key)
		}
		return start(ctx, s.socket, cmd)
	}
	if err := errors.Join(s.RestartRedis(ctx), s.Restart(ctx)); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// build makes the server's binary in dist, and returns its path.
var build = func() func(ctx context.Context) (string, error) {
	var once sync.Mutex
	return func(ctx context.Context) (string, error) {
		once.Lock()
		defer once.Unlock()
		root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sentinel-envoy").Output()
		if err != nil {
			return "", fmt.Errorf("finding the project: %w", err)
		}
		dir := string(root[:len(root)-1])
		path := filepath.Join(dir, "dist", "ratelimit")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", path, server)
		cmd.Dir = filepath.Join(dir, "internal", "ratelimit", "server")
		cmd.Env = append(os.Environ(), "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", server, err, out)
		}
		return path, nil
	}
}()

// Cluster is how an Envoy reaches the service, in Envoy's JSON, as a cluster of that name.
func (s *Service) Cluster(name string) map[string]any {
	c := Cluster(name, s.socket)
	if s.tls != nil {
		c["transport_socket"] = map[string]any{
			"name": "envoy.transport_sockets.tls",
			"typed_config": map[string]any{
				"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
				"sni":   s.tls.Name,
				"common_tls_context": map[string]any{"validation_context": map[string]any{
					"trusted_ca": map[string]any{"filename": s.tls.CA},
					"match_typed_subject_alt_names": []any{map[string]any{
						"san_type": "DNS", "matcher": map[string]any{"exact": s.tls.Name},
					}},
				}},
			},
		}
	}
	return c
}

// Cluster is a cluster of Envoy's of a service of gRPC's that listens on a Unix socket.
func Cluster(name, socket string) map[string]any {
	return map[string]any{
		"name": name,
		"type": "STATIC",
		"load_assignment": map[string]any{
			"cluster_name": name,
			"endpoints": []any{map[string]any{"lb_endpoints": []any{map[string]any{
				"endpoint": map[string]any{"address": map[string]any{"pipe": map[string]any{"path": socket}}},
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

// Restart starts the server, which StopServer has stopped; RestartRedis likewise.
func (s *Service) Restart(ctx context.Context) (err error) {
	s.server, err = s.startServer(ctx)
	return err
}

// RestartRedis is described with Restart.
func (s *Service) RestartRedis(ctx context.Context) (err error) {
	s.redis, err = s.startRedis(ctx)
	return err
}

// StopServer ends the server, StopRedis the Redis behind it.
func (s *Service) StopServer() {
	s.server.stop()
	s.server = nil
}

// StopRedis is described with StopServer.
func (s *Service) StopRedis() {
	s.redis.stop()
	s.redis = nil
}

// Pause makes the server silent, without closing its connections, until Continue.
func (s *Service) Pause() error { return s.server.cmd.Process.Signal(syscall.SIGSTOP) }

// Continue is described with Pause.
func (s *Service) Continue() error { return s.server.cmd.Process.Signal(syscall.SIGCONT) }

// Stop ends both.
func (s *Service) Stop() {
	for _, d := range []*daemon{s.server, s.redis} {
		if d != nil {
			d.stop()
		}
	}
	s.server, s.redis = nil, nil
}

// start runs a command until it listens on a Unix socket.
func start(ctx context.Context, socket string, cmd *exec.Cmd) (*daemon, error) {
	_ = os.Remove(socket) // of one that has ended
	d, err := startDaemon(cmd, socket+".log")
	if err != nil {
		return nil, err
	}
	if err := d.waitFor(ctx, socket); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
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
	cmd.SysProcAttr = envoytest.DieWithParent()
	d := &daemon{cmd: cmd, log: logFile, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // with whose end the process ends, too
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
			close(d.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
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
	_ = d.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-d.ended:
	case <-time.After(serviceGrace):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
}

package envoytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"sentinel-envoy/internal/envoybin"
)

const (
	defaultReadyTimeout = 5 * time.Minute // Envoy compiles a Wasm module for seconds before it is ready
	updateTimeout       = 3 * time.Minute
	stopTimeout         = 5 * time.Second
	tailLines           = 40
)

// Config says which Envoy to run, and how. The zero value runs the default release with no listener.
type Config struct {
	Listeners []Listener
	// Upstreams lists further host:port addresses that later listeners (see UpdateListeners) may forward to.
	Upstreams []string
	// Clusters are further clusters in Envoy's JSON, for what filters call.
	Clusters []object
	// Dynamic has Envoy read the listeners from a file that UpdateListeners replaces. A listener that Envoy rejects
	// then does not keep it from starting.
	Dynamic bool
	// Bootstrap is a whole configuration in YAML, in place of what the fields above make. It must have the admin
	// interface, and its listeners are known by the names it gives them.
	Bootstrap []byte

	Concurrency int    // worker threads; default 2
	Version     string // Envoy release; empty for envoybin's default. $ENVOY_PATH wins, as in envoybin.Find
	EnvoyPath   string // an Envoy binary, in place of envoybin's

	LogLevel   string            // Envoy's log level; default "info"
	Components map[string]string // log levels of single components, such as {"wasm": "debug"}
	Args       []string          // further arguments of the command line
	Env        []string          // further environment variables, as "NAME=value"

	// HotRestart lets another Envoy take over from this one.
	HotRestart bool
	// TakesOver is a running Envoy with HotRestart that this one takes over from: it accepts in its place, on listeners
	// with the same ports. The other then ends by itself; see Process.Ended.
	TakesOver *Process

	Dir          string        // where the log, the bootstrap and the access logs go; default: a temporary directory
	ReadyTimeout time.Duration // default 5 min
}

// ExitError says that Envoy ended by itself.
type ExitError struct {
	State string // how it ended, such as "exit status 1"
	Log   string // everything it logged
}

func (e *ExitError) Error() string {
	lines := strings.Split(strings.TrimRight(e.Log, "\n"), "\n")
	return fmt.Sprintf("Envoy ended (%s); its last lines:\n%s",
		e.State, strings.Join(lines[max(0, len(lines)-tailLines):], "\n"))
}

// Process is a running Envoy. Its methods may be called from several goroutines, UpdateListeners from one at a time.
type Process struct {
	// Log is what Envoy writes to its standard error.
	Log *Log
	// Admin speaks to Envoy's admin interface.
	Admin *Admin

	cfg     Config
	dir     string
	ownDir  bool // dir is ours to remove
	ldsFile string
	version int // of the listeners in ldsFile
	epoch   int // how many Envoys have taken over from each other before this one

	proc    *os.Process
	ended   chan struct{}
	state   *os.ProcessState // how it ended; set before ended is closed
	stopped sync.Once

	ports  map[string]int // those that listeners were given, by name
	claims []io.Closer    // to ports

	mu        sync.Mutex
	addrs     map[string]string // host:port by listener
	listeners []Listener
}

// Launch starts an Envoy and waits until its listeners accept. The caller must Stop it. The error is an *ExitError where
// Envoy ended instead.
func Launch(ctx context.Context, cfg Config) (*Process, error) {
	path := cfg.EnvoyPath
	if path == "" {
		var err error
		if path, err = envoybin.Find(ctx, envoybin.Options{Version: cfg.Version}); err != nil {
			return nil, err
		}
	}
	p := &Process{cfg: cfg, dir: cfg.Dir, ended: make(chan struct{}), version: 1, listeners: cfg.Listeners, ports: map[string]int{}}
	if err := p.launch(ctx, path); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (p *Process) launch(ctx context.Context, path string) error {
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "envoytest-")
		if err != nil {
			return err
		}
		p.dir, p.ownDir = dir, true
	}
	p.Log = &Log{path: filepath.Join(p.dir, "envoy.log"), ended: p.ended}
	if err := p.writeConfig(); err != nil {
		return err
	}
	if err := p.start(path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, or(p.cfg.ReadyTimeout, defaultReadyTimeout))
	defer cancel()
	if err := p.waitReady(ctx); err != nil {
		return err
	}
	return p.readAddrs(ctx)
}

func (p *Process) bootstrapFile() string {
	if p.cfg.Bootstrap != nil {
		return filepath.Join(p.dir, "bootstrap.yaml")
	}
	return filepath.Join(p.dir, "bootstrap.json")
}

func (p *Process) adminAddressFile() string { return filepath.Join(p.dir, "admin.address") }

func (p *Process) writeConfig() error {
	// An earlier Envoy in the same directory may have left its own.
	if err := os.Remove(p.adminAddressFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listeners, err := p.place(p.cfg.Listeners)
	if err != nil {
		return err
	}
	if p.cfg.Bootstrap != nil {
		return os.WriteFile(p.bootstrapFile(), p.cfg.Bootstrap, 0o644)
	}
	if p.cfg.Dynamic {
		p.ldsFile = filepath.Join(p.dir, "listeners.json")
		if err := p.writeListeners(listeners); err != nil {
			return err
		}
	}
	text, err := bootstrap(listeners, p.cfg.Upstreams, p.cfg.Clusters, p.dir, p.ldsFile)
	if err != nil {
		return err
	}
	return os.WriteFile(p.bootstrapFile(), text, 0o644)
}

// start runs Envoy, with a goroutine that collects its end.
func (p *Process) start(path string) error {
	logFile, err := os.Create(p.Log.path)
	if err != nil {
		return err
	}
	defer logFile.Close() // Envoy has its own descriptor
	args, err := p.args()
	if err != nil {
		return err
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if len(p.cfg.Env) > 0 {
		cmd.Env = append(os.Environ(), p.cfg.Env...)
	}
	cmd.SysProcAttr = DieWithParent()

	started := make(chan error)
	go func() {
		// Pdeathsig is tied to the thread that starts the process: keep it for as long as the process lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // the state says it all
		p.state = cmd.ProcessState
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	p.proc = cmd.Process
	return nil
}

func (p *Process) args() ([]string, error) {
	args := []string{
		"--config-path", p.bootstrapFile(),
		"--admin-address-path", p.adminAddressFile(),
		"--concurrency", strconv.Itoa(or(p.cfg.Concurrency, 2)),
		"--log-level", or(p.cfg.LogLevel, "info"),
		"--file-flush-interval-msec", "50",
	}
	restart, err := p.restartArgs()
	if err != nil {
		return nil, err
	}
	args = append(args, restart...)
	if len(p.cfg.Components) > 0 {
		levels := make([]string, 0, len(p.cfg.Components))
		for component, level := range p.cfg.Components {
			levels = append(levels, component+":"+level)
		}
		slices.Sort(levels)
		args = append(args, "--component-log-level", strings.Join(levels, ","))
	}
	return append(args, p.cfg.Args...), nil
}

// waitReady waits until Envoy is live and its workers run.
func (p *Process) waitReady(ctx context.Context) error {
	return p.poll(ctx, "Envoy to be ready", func() bool {
		addr, err := os.ReadFile(p.adminAddressFile())
		if err != nil {
			return false
		}
		p.Admin = NewAdmin(strings.TrimSpace(string(addr))) // anew each time: Envoy may have been amid writing it
		state, err := p.Admin.Get(ctx, "/ready")
		if err != nil || strings.TrimSpace(state) != "LIVE" {
			return false
		}
		stats, err := p.Admin.Stats(ctx, `^listener_manager\.workers_started$`)
		return err == nil && stats["listener_manager.workers_started"] == 1
	})
}

// poll calls done until it gives true. It fails early with an *ExitError where Envoy ends.
func (p *Process) poll(ctx context.Context, what string, done func() bool) error {
	for {
		if closed(p.ended) {
			return &ExitError{State: p.state.String(), Log: p.Log.String()}
		}
		if done() {
			return nil
		}
		if err := sleep(ctx, pollEvery); err != nil {
			return fmt.Errorf("waiting for %s: %w; the log's last lines:\n%s", what, err, p.Log.Tail(tailLines))
		}
	}
}

func (p *Process) readAddrs(ctx context.Context) error {
	addrs, err := p.Admin.Listeners(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addrs = addrs
	return nil
}

// Addr gives the host:port that the listener really listens on; empty where Envoy has no such listener.
func (p *Process) Addr(listener string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addrs[listener]
}

// AccessLog reads the access log of a listener that has one.
func (p *Process) AccessLog(listener string) *Log {
	return &Log{path: accessLogPath(p.dir, listener), ended: p.ended}
}

// UpdateListeners replaces all listeners, and waits until Envoy has taken or rejected them. The error holds Envoy's
// reason for a rejection; the listeners that it accepted are in force all the same. A listener that only changes its
// filters keeps its port. Each worker turns to the new filters a moment later. Config.Dynamic must be set.
func (p *Process) UpdateListeners(ctx context.Context, listeners ...Listener) error {
	if !p.cfg.Dynamic {
		return errors.New("UpdateListeners: Config.Dynamic is not set")
	}
	before, err := p.updates(ctx)
	if err != nil {
		return err
	}
	if listeners, err = p.place(listeners); err != nil {
		return err
	}
	seen := int64(len(p.Log.String()))
	p.version++
	if err := p.writeListeners(listeners); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	var after updateCounts
	err = p.poll(ctx, "Envoy to take the listeners", func() bool {
		after, err = p.updates(ctx)
		return err == nil && after.accepted+after.rejected > before.accepted+before.rejected && after.warming == 0
	})
	if err != nil {
		return err
	}
	if after.rejected > before.rejected {
		return p.rejection(seen)
	}
	return p.readAddrs(ctx)
}

// rejection gives Envoy's reason from its log, which has it before the count of rejections rises. It can be many lines:
// Envoy quotes the listener.
func (p *Process) rejection(offset int64) error {
	text, err := p.Log.readFrom(offset)
	if err != nil {
		return err
	}
	reason := rejected.FindSubmatch(text)
	if reason == nil {
		return errors.New("listeners rejected; the log does not say why")
	}
	return fmt.Errorf("listeners rejected: %s", bytes.TrimSpace(reason[1]))
}

// rejected matches a rejection up to the next line that begins with a time stamp.
var rejected = regexp.MustCompile(`(?s)config update rejected: (.*?)(?:\n\[\d{4}-|$)`)

type updateCounts struct{ accepted, rejected, warming float64 }

func (p *Process) updates(ctx context.Context) (updateCounts, error) {
	stats, err := p.Admin.Stats(ctx, `^listener_manager\.`)
	return updateCounts{
		accepted: stats["listener_manager.lds.update_success"],
		rejected: stats["listener_manager.lds.update_rejected"],
		warming:  stats["listener_manager.total_listeners_warming"],
	}, err
}

// writeListeners replaces the file of listeners. Envoy notices files that are moved into place.
func (p *Process) writeListeners(listeners []Listener) error {
	text, err := listenerUpdate(listeners, p.dir, p.version)
	if err != nil {
		return err
	}
	next := p.ldsFile + ".next"
	if err := os.WriteFile(next, text, 0o644); err != nil {
		return err
	}
	return os.Rename(next, p.ldsFile)
}

// PID gives the id of Envoy's process.
func (p *Process) PID() int { return p.proc.Pid }

// Ended is closed when Envoy has ended, for whatever reason.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Stop ends Envoy, and returns when it is gone. Where Envoy had ended before by itself, the error is an *ExitError.
// Further calls do nothing.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM) }

// Kill is Stop, but Envoy has no time for anything.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL) }

func (p *Process) end(by syscall.Signal) error {
	var err error
	p.stopped.Do(func() {
		defer func() {
			for _, c := range p.claims {
				c.Close()
			}
		}()
		if p.ownDir {
			defer os.RemoveAll(p.dir)
		}
		if p.proc == nil {
			return
		}
		defer func() { err = errors.Join(err, p.removeShared()) }()
		if closed(p.ended) {
			err = &ExitError{State: p.state.String(), Log: p.Log.String()}
			return
		}
		_ = p.proc.Signal(by) // an error means that it has just ended
		select {
		case <-p.ended:
		case <-time.After(stopTimeout):
			_ = p.proc.Kill()
			<-p.ended
		}
	})
	return err
}

package demo

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"sentinel-envoy/internal/envoybin"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/quickstart"
)

//go:embed envoy.yaml
var bootstrap string

// rulesFile is how the bootstrap names the file of rules.
const rulesFile = "sentinel.json"

// maxDuration bounds a demo that nobody ends.
const maxDuration = 24 * time.Hour

type settings struct {
	wasm        string
	concurrency int
	duration    time.Duration
	quiet       time.Duration
	flood       time.Duration
	failing     time.Duration
	page        int // port
	ports       quickstart.Ports
}

// Main is the command `sentinel demo`. It runs until ctx or the given duration ends, and returns the exit code: 0 then, 1
// for a failure, 2 for wrong arguments. When it returns, Envoy, the service, the clients and the page are gone and
// temporary files are removed. "Ready" on stdout begins the line with the page's address.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if err := run(ctx, s, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "sentinel demo:", err)
		return 1
	}
	fmt.Fprintln(stdout, "stopped")
	return 0
}

// parse reads the flags. It has printed the error that it returns.
func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("sentinel demo", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&s.wasm, "wasm", "dist/sentinel.wasm", "Wasm `file`, made by make wasm")
	fs.IntVar(&s.concurrency, "concurrency", 4, "Envoy's worker threads")
	fs.DurationVar(&s.duration, "d", time.Hour, "`duration` after which everything ends, at most 24h")
	fs.DurationVar(&s.quiet, "quiet", time.Minute, "`duration` of the quiet chapter")
	fs.DurationVar(&s.flood, "flood", 40*time.Second, "`duration` of the flood")
	fs.DurationVar(&s.failing, "failing", 40*time.Second, "`duration` of the service's failure")
	fs.IntVar(&s.page, "page-port", 8090, "port of the page")
	fs.IntVar(&s.ports.HTTP, "http-port", 8099, "port of the HTTP listener")
	fs.IntVar(&s.ports.Admin, "admin-port", 8001, "port of Envoy's admin interface")
	fs.IntVar(&s.ports.Upstream, "upstream-port", 18080, "port of the service behind Envoy")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	err := s.check(fs.Args())
	if err != nil {
		fmt.Fprintln(stderr, "sentinel demo:", err)
	}
	return s, err
}

func (s *settings) check(rest []string) error {
	var errs []error
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", rest[0]))
	}
	if s.concurrency < 1 {
		errs = append(errs, fmt.Errorf("-concurrency %d: must be at least 1", s.concurrency))
	}
	if s.duration <= 0 || s.duration > maxDuration {
		errs = append(errs, fmt.Errorf("-d %v: must be above 0 and at most %v", s.duration, maxDuration))
	}
	for name, d := range map[string]time.Duration{"quiet": s.quiet, "flood": s.flood, "failing": s.failing} {
		if d < time.Second || d > time.Hour {
			errs = append(errs, fmt.Errorf("-%s %v: must be 1s to 1h", name, d))
		}
	}
	return errors.Join(errs...)
}

// list are the ports that must be free.
func (s *settings) list() []quickstart.Port {
	return []quickstart.Port{
		{Number: s.page, Use: "page", Flag: "page-port", Target: "demo", Variable: "PAGE_PORT"},
		{Number: s.ports.HTTP, Use: "HTTP listener", Flag: "http-port", Target: "demo", Variable: "HTTP_PORT"},
		{Number: s.ports.Admin, Use: "admin interface", Flag: "admin-port", Target: "demo", Variable: "ADMIN_PORT"},
		{Number: s.ports.Upstream, Use: "service behind Envoy", Flag: "upstream-port", Target: "demo", Variable: "UPSTREAM_PORT"},
	}
}

// run runs everything until ctx ends or something fails.
func run(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	wasm, err := filepath.Abs(s.wasm)
	if err == nil {
		_, err = os.Stat(wasm)
	}
	if err != nil {
		err = fmt.Errorf("%w (`make wasm` builds it)", err)
	}
	if err := errors.Join(err, quickstart.CheckPorts(ctx, s.list())); err != nil {
		return err
	}
	envoy, err := envoybin.Find(ctx, envoybin.Options{Log: stderr})
	if ctx.Err() != nil {
		return nil // the user stopped the download
	}
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sentinel-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, s.duration)
	defer cancel()
	st, err := newStage(s, dir, wasm)
	if err != nil {
		return err
	}
	defer st.close()
	fmt.Fprintf(stdout, "starting %s with %d worker threads; it compiles the Wasm first, which takes a few seconds\n", envoy, s.concurrency)
	return st.run(ctx, envoy, stdout, stderr)
}

// stage has all that there is besides Envoy.
type stage struct {
	settings settings
	dir      string
	rules    *rules
	player   *player
	observer *observer
	service  *service
	web      *web
	servers  []*http.Server
}

// newStage makes the file of rules and starts the service and the page. close ends them.
func newStage(s settings, dir, wasm string) (*stage, error) {
	r, err := newRules(filepath.Join(dir, rulesFile), wasm)
	if err != nil {
		return nil, err
	}
	st := &stage{
		settings: s, dir: dir, rules: r, service: &service{}, observer: newObserver(loopback(s.ports.Admin)),
		player: newPlayer(chapters(s.quiet, s.flood, s.failing), s.ports.HTTP),
	}
	st.player.begin = func(c chapter) { st.service.failing.Store(c.Failing) }
	st.player.sent = st.observer.clientsSent
	st.web = newWeb(loopback(s.page), r, st.player)
	for addr, handler := range map[string]http.Handler{loopback(s.ports.Upstream): st.service, st.web.addr: st.web.handler()} {
		server, err := envoytest.Serve(addr, handler)
		if err != nil {
			st.close()
			return nil, err
		}
		st.servers = append(st.servers, server)
	}
	return st, nil
}

func (st *stage) close() {
	for _, server := range st.servers {
		server.Close()
	}
}

// run runs Envoy, and once that is ready the story.
func (st *stage) run(ctx context.Context, envoy string, stdout, stderr io.Writer) error {
	text, err := quickstart.Render([]byte(strings.Replace(bootstrap, rulesFile, st.rules.file, 1)), st.settings.ports, st.rules.wasm)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var playing sync.WaitGroup
	defer playing.Wait()
	defer cancel()
	return quickstart.Envoy{
		Binary: envoy, Bootstrap: text, Dir: st.dir, Concurrency: st.settings.concurrency,
		LogLevel: "warn,wasm:debug", // the audit
		Stdout:   stdout,
		Log:      &logReader{decided: st.observer.decided, other: func(line []byte) { fmt.Fprintf(stderr, "%s\n", line) }},
		Ready: func() {
			fmt.Fprintf(stdout, "\nReady: http://%s/ shows what happens, live. Ctrl-C ends everything.\n\n", st.web.addr)
			playing.Go(func() { st.player.play(ctx) })
			playing.Go(func() { st.watch(ctx) })
		},
	}.Run(ctx)
}

// watch publishes snapshots until ctx ends.
func (st *stage) watch(ctx context.Context) {
	tick := time.NewTicker(everySnapshot)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			st.observer.ask(ctx)
			s := st.observer.snapshot(now)
			c, played := st.player.place()
			s.Chapter, s.Played, s.Length = c.Name, played.Seconds(), c.Length.Seconds()
			s.Thresholds = st.rules.all()
			if err := st.web.publish(s); err != nil {
				return // it cannot be: a snapshot has a JSON
			}
		}
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

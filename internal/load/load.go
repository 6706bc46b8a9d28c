// Package load is a load client for one machine: it offers requests at a fixed rate to a loopback port and tells how
// many passed, how many a rate limit blocked, and how many failed.
//
// The rate is an open loop: request k is due at k/QPS seconds whatever became of the others, and its latency counts
// from then, so a server that stalls is seen to stall. What is outstanding stays bounded by Connections × Pipeline; a
// request that finds no room leaves late and is counted as behind.
package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Proto says what one request is.
type Proto string

const (
	// HTTP1 is HTTP/1.1 on kept connections, pipelined when Options.Pipeline is above 1.
	HTTP1 Proto = "http1"
	// H2C is HTTP/2 in clear text with prior knowledge.
	H2C Proto = "h2c"
	// TCP is one connection per request: connect, optionally send a small HTTP request, wait for the first data, close.
	TCP Proto = "tcp"
)

// Bounds of Options. They keep a mistyped flag from taking the machine down.
const (
	MaxDuration    = time.Hour
	MaxQPS         = 1e6
	MaxConnections = 1024
	MaxPipeline    = 256

	minEvery = 10 * time.Millisecond
)

// interruptGrace is how long outstanding requests may still take once the caller's context has ended.
const interruptGrace = 500 * time.Millisecond

// Options say where the load goes and how much of it. Zero values take the defaults named here.
type Options struct {
	Host     string        // "localhost" or a loopback address; default 127.0.0.1
	Port     int           // 1 to 65535
	Proto    Proto         // default HTTP1
	Path     string        // with or without leading slash; default "/". With TCP, "" sends nothing: the server speaks first
	Method   string        // default GET
	Header   http.Header   // further request headers; Host replaces the authority
	Body     []byte        // request body, sent with its length; none by default
	QPS      float64       // requests a second; 0: each connection sends its next request when it has the last answer
	Duration time.Duration // of the sending, default 10 s, at most MaxDuration
	Requests uint64        // at most that many requests; 0: only Duration ends the run

	Connections int // default 8; with TCP, the connections open at one time
	// Pipeline is how many requests may be outstanding on one connection: pipelined with HTTP1, streams with H2C; default
	// 1. Envoy drops an HTTP/1.1 connection on which more than two answers of its own making wait, as blocks are: beyond 2,
	// one connection takes H2C.
	Pipeline int
	Timeout  time.Duration // of one request, default 10 s

	// BlockMessage is what a blocked TCP client is sent; a connection whose data starts with it counts as blocked. Empty:
	// only a connection closed without data is blocked.
	BlockMessage string

	// OnSecond, when set, is called after each second of the run, and after what is left of the last one, before Run
	// returns. The calls do not overlap. With Every it is called that often instead; default 1 s, at least 10 ms.
	OnSecond func(Second)
	Every    time.Duration
}

// ErrNothingSent says that no connection could be opened at all. Run wraps it together with the last reason.
var ErrNothingSent = errors.New("nothing could be sent")

// Run offers the load and returns when every request has its outcome: after Duration, after Requests, or soon after ctx
// has ended. The end of ctx is no error. The error is every mistake in the options at once, or ErrNothingSent; with the
// latter the summary is complete.
func Run(ctx context.Context, o Options) (Summary, error) {
	o = o.withDefaults()
	t, err := o.target()
	if err != nil {
		return Summary{}, err
	}
	clock := newRunClock()
	sched := &schedule{qps: o.QPS, duration: o.Duration, limit: o.Requests, clock: clock}
	tally := newTally(clock)
	stopReports := tally.report(o.Every, o.OnSecond)

	// Outstanding requests outlive ctx by the grace, so that an interrupted run still reports their answers.
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(interruptGrace, cancel) })()

	lanes := t.lanes(tally)
	var wg sync.WaitGroup
	for _, l := range lanes {
		wg.Go(func() { runLane(ctx, hard, sched, tally, l) })
	}
	wg.Wait()
	stopReports()
	for _, l := range lanes {
		l.close()
	}

	s := tally.summary()
	s.Unsent = sched.unsent()
	if s.Sent > 0 && s.Errors[string(failConnect)] == s.Sent {
		return s, fmt.Errorf("%w: %s", ErrNothingSent, s.LastError)
	}
	return s, nil
}

// lane sends requests, one batch after the other; it is used by one goroutine.
type lane interface {
	// exchange sends one request for each due time and records the outcome of every one in the lane's tally.
	exchange(ctx context.Context, due []time.Duration)
	// depth is the most due times exchange takes at once.
	depth() int
	// close closes the lane's connection, after every lane has ended: lanes may share one.
	close()
}

// runLane feeds a lane from the schedule until that ends. ctx ends the sending, hard the waiting for answers.
func runLane(ctx, hard context.Context, sched *schedule, tally *tally, l lane) {
	due := make([]time.Duration, 0, l.depth())
	for {
		var now time.Duration
		due, now = sched.take(ctx, due[:0], l.depth())
		if len(due) == 0 {
			return
		}
		tally.sent(due, now, sched.qps > 0)
		l.exchange(hard, due)
	}
}

func (o Options) withDefaults() Options {
	if o.Host == "" || o.Host == "localhost" {
		// Not resolved: a hosts file could send "localhost" anywhere.
		o.Host = "127.0.0.1"
	}
	if o.Proto == "" {
		o.Proto = HTTP1
	}
	if o.Method == "" {
		o.Method = http.MethodGet
	}
	if o.Path == "" && o.Proto != TCP {
		o.Path = "/"
	}
	if o.Path != "" && !strings.HasPrefix(o.Path, "/") {
		o.Path = "/" + o.Path
	}
	if o.Duration == 0 {
		o.Duration = 10 * time.Second
	}
	if o.Connections == 0 {
		o.Connections = 8
	}
	if o.Pipeline == 0 {
		o.Pipeline = 1
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	return o
}

// target is checked options in the form the lanes use.
type target struct {
	Options
	addr      string // host:port
	authority string // the Host header, :authority
	url       *url.URL
}

// target checks o, which has its defaults; the error has every mistake.
func (o Options) target() (target, error) {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if ip, err := netip.ParseAddr(o.Host); err != nil || !ip.IsLoopback() {
		wrong("host %q: only a loopback address is accepted, so that a mistyped address cannot flood somebody else's machine", o.Host)
	}
	if o.Port < 1 || o.Port > 65535 {
		wrong("port: must be 1 to 65535, got %d", o.Port)
	}
	if o.Proto != HTTP1 && o.Proto != H2C && o.Proto != TCP {
		wrong("proto: must be http1, h2c or tcp, got %q", o.Proto)
	}
	if !(o.QPS >= 0 && o.QPS <= MaxQPS) { // so written, it refuses NaN
		wrong("requests per second: must be 0 to %d, got %v", int(MaxQPS), o.QPS)
	}
	if o.Duration < 0 || o.Duration > MaxDuration {
		wrong("duration: must be above 0 and at most %v, got %v", MaxDuration, o.Duration)
	}
	if o.Connections < 1 || o.Connections > MaxConnections {
		wrong("connections: must be 1 to %d, got %d", MaxConnections, o.Connections)
	}
	if o.Pipeline < 1 || o.Pipeline > MaxPipeline {
		wrong("pipeline: must be 1 to %d, got %d", MaxPipeline, o.Pipeline)
	}
	if o.Proto == TCP && o.Pipeline > 1 {
		wrong("pipeline: TCP has one request per connection")
	}
	if o.Timeout < 0 {
		wrong("timeout: must be above 0, got %v", o.Timeout)
	}
	if o.Every < minEvery {
		wrong("every: must be at least %v, got %v", minEvery, o.Every)
	}
	if !isToken(o.Method) {
		wrong("method %q: not a valid HTTP method", o.Method)
	}

	t := target{Options: o, addr: net.JoinHostPort(o.Host, strconv.Itoa(o.Port))}
	t.authority = t.addr
	if h := o.Header.Get("Host"); h != "" {
		t.authority = h
	}
	u, err := url.Parse("http://" + t.addr + o.Path)
	if err != nil || strings.ContainsAny(o.Path, " #") {
		wrong("path %q: must be a URL path, escaped, without spaces or a fragment", o.Path)
	}
	t.url = u
	for name, values := range o.Header {
		if err := checkHeader(name, values); err != nil {
			errs = append(errs, err)
		}
	}
	return t, errors.Join(errs...)
}

// checkHeader refuses what would break the framing of a request.
func checkHeader(name string, values []string) error {
	switch strings.ToLower(name) {
	case "content-length", "transfer-encoding", "connection", "upgrade":
		return fmt.Errorf("header %q: is the client's own to set", name)
	}
	if !isToken(name) {
		return fmt.Errorf("header %q: not a valid header name", name)
	}
	for _, v := range values {
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return fmt.Errorf("header %q: control character in value %q", name, v)
		}
	}
	return nil
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// lanes makes one lane per connection; with H2C one per stream, each connection being shared by Pipeline lanes.
func (t target) lanes(tally *tally) []lane {
	var ls []lane
	for range t.Connections {
		switch t.Proto {
		case TCP:
			ls = append(ls, newTCPLane(t, tally))
		case H2C:
			c := newH2Conn(t, tally)
			for range t.Pipeline {
				ls = append(ls, &h2Lane{conn: c, target: t, tally: tally})
			}
		default:
			ls = append(ls, newHTTP1Lane(t, tally))
		}
	}
	return ls
}

// pauseAfterRefusal keeps a closed loop from spinning on a port nobody listens on. An open loop has its pace.
func (t target) pauseAfterRefusal(ctx context.Context) {
	if t.QPS > 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serve starts a server for a handler, with HTTP/1.1 and HTTP/2 in clear text, and returns its port.
func serve(t *testing.T, h http.HandlerFunc) int {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// serveTCP calls f with each accepted connection, and closes that when f returns.
func serveTCP(t *testing.T, f func(net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

// run runs a load that ends by its count, and checks what holds for all of them.
func run(t *testing.T, o Options) Summary {
	t.Helper()
	if o.Duration == 0 {
		o.Duration = time.Minute
	}
	var seconds Counts
	o.OnSecond = func(s Second) {
		seconds.Sent += s.Sent
		seconds.Passed += s.Passed
		seconds.Blocked += s.Blocked
		seconds.Failed += s.Failed
		seconds.Behind += s.Behind
	}
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Passed+s.Blocked+s.Failed != s.Sent {
		t.Errorf("outcomes do not add up to what was sent: %+v", s)
	}
	equal(t, "sum of the seconds", seconds, s.Counts)
	if o.Requests > 0 && s.Sent != o.Requests {
		t.Errorf("sent %d, want %d", s.Sent, o.Requests)
	}
	return s
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// shapes are the ways to offer HTTP requests; every behaviour of HTTP is tested over all of them.
var shapes = map[string]Options{
	"http1":           {Proto: HTTP1, Connections: 4},
	"http1 paced":     {Proto: HTTP1, Connections: 4, QPS: 5000},
	"http1 pipelined": {Proto: HTTP1, Connections: 1, Pipeline: 16},
	"h2c":             {Proto: H2C, Connections: 2},
	"h2c streams":     {Proto: H2C, Connections: 1, Pipeline: 16, QPS: 5000},
}

func TestHTTPOutcomes(t *testing.T) {
	for name, o := range shapes {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int64
			o.Port = serve(t, func(w http.ResponseWriter, r *http.Request) {
				switch n.Add(1) % 5 {
				case 0:
					w.WriteHeader(429)
				case 1:
					w.Header().Set("x-envoy-ratelimited", "true")
					w.WriteHeader(503)
				case 2:
					w.WriteHeader(500)
				case 3:
					w.(http.Flusher).Flush() // chunked, in HTTP/1.1
					io.WriteString(w, strings.Repeat("x", 10000))
				default:
					io.WriteString(w, "ok")
				}
			})
			o.Requests = 200
			s := run(t, o)
			equal(t, "status", s.Status, map[string]uint64{"200": 80, "429": 40, "500": 40, "503": 40})
			equal(t, "passed, blocked, failed", []uint64{s.Passed, s.Blocked, s.Failed}, []uint64{80, 80, 40})
			equal(t, "errors", s.Errors, map[string]uint64{})
			if s.Connections < 1 || s.Connections > uint64(o.Connections) {
				t.Errorf("%d connections opened, want 1 to %d", s.Connections, o.Connections)
			}
		})
	}
}

func TestHTTPRequestIsAsAsked(t *testing.T) {
	for name, o := range shapes {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			seen := map[string]int{}
			o.Port = serve(t, func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				defer mu.Unlock()
				seen[fmt.Sprintln(r.Method, r.RequestURI, r.Host, r.Header["X-A"], string(body))]++
			})
			o.Path, o.Method, o.Requests, o.Body = "some-test//x?y=%20z", "POST", 50, []byte("body")
			o.Header = http.Header{"X-A": {"1", "2"}, "Host": {"a.example"}}
			run(t, o)
			equal(t, "requests", seen, map[string]int{"POST /some-test//x?y=%20z a.example [1 2] body\n": 50})
		})
	}
}

func TestGRPCStatusInHeadersAndTrailers(t *testing.T) {
	var n atomic.Int64
	port := serve(t, func(w http.ResponseWriter, r *http.Request) {
		where := "Grpc-Status" // alone, it stands in the headers
		if n.Add(1)%2 == 0 {
			where = http.TrailerPrefix + where
			io.WriteString(w, "message")
		}
		w.Header().Set(where, "8")
	})
	s := run(t, Options{Proto: H2C, Port: port, Requests: 20, Method: "POST", Header: http.Header{"Content-Type": {"application/grpc"}}})
	equal(t, "blocked", s.Blocked, 20)
	equal(t, "status", s.Status, map[string]uint64{"200 grpc 8": 20})
}

func TestHTTP1ReconnectsAfterAnnouncedClose(t *testing.T) {
	for _, pipeline := range []int{1, 16} {
		t.Run(strconv.Itoa(pipeline), func(t *testing.T) {
			var n atomic.Int64
			port := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1)%7 == 0 {
					w.Header().Set("Connection", "close")
				}
			})
			s := run(t, Options{Port: port, Requests: 70, Connections: 1, Pipeline: pipeline})
			// A server may reset a connection that it closes with requests unread, and take an answer with it.
			if pipeline == 1 {
				equal(t, "passed", s.Passed, 70)
				equal(t, "connections", s.Connections, 10)
			}
			if s.Passed == 0 || s.Connections < 2 {
				t.Errorf("no reconnect: %+v", s)
			}
		})
	}
}

// answerThenClose answers a request and then closes without having said so.
func answerThenClose(c net.Conn) {
	if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

func TestHTTP1ReplacesKeptConnectionThatEndedIdle(t *testing.T) {
	s := run(t, Options{Port: serveTCP(t, answerThenClose), Requests: 30, Connections: 1})
	equal(t, "passed", s.Passed, 30)
	equal(t, "connections", s.Connections, 30)
}

func TestHTTP1FailuresAreNamed(t *testing.T) {
	for want, server := range map[failure]func(net.Conn){
		failClosed:    func(c net.Conn) { http.ReadRequest(bufio.NewReader(c)) },
		failMalformed: func(c net.Conn) { io.WriteString(c, "220 mail ready\r\n"); io.Copy(io.Discard, c) },
		failTimeout:   func(c net.Conn) { io.Copy(io.Discard, c) },
	} {
		t.Run(string(want), func(t *testing.T) {
			o := Options{Port: serveTCP(t, server), Requests: 6, Connections: 2, Timeout: time.Minute}
			if want == failTimeout {
				o.Timeout = 10 * time.Millisecond
			}
			s := run(t, o)
			equal(t, "errors", s.Errors, map[string]uint64{string(want): 6})
			equal(t, "failed", s.Failed, 6)
			if s.LastError == "" {
				t.Error("no text of the last error")
			}
		})
	}
}

func TestTCPOutcomes(t *testing.T) {
	const message = "blocked by a rule"
	greet := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			for i := range len(text) { // in small pieces
				io.WriteString(c, text[i:i+1])
			}
			io.Copy(io.Discard, c)
		}
	}
	for _, tc := range []struct {
		name   string
		path   string
		server func(net.Conn)
		kind   string
		class  class
	}{
		{"closes at once", "", func(net.Conn) {}, tcpClosed, blocked},
		{"closes at once, client speaks", "some-test", func(net.Conn) {}, tcpClosed, blocked},
		{"resets", "", func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }, tcpClosed, blocked},
		{"server speaks first", "", greet("hello"), tcpData, passed},
		{"block message", "", greet(message), tcpBlocked, blocked},
		{"starts like the block message", "", greet("blocked by nothing"), tcpData, passed},
		{"ends within the block message", "", func(c net.Conn) { io.WriteString(c, "blocked") }, tcpData, passed},
		{"answers HTTP", "some-test", answerThenClose, tcpData, passed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := run(t, Options{Proto: TCP, Port: serveTCP(t, tc.server), Path: tc.path, BlockMessage: message, Requests: 20, Connections: 4})
			equal(t, "status", s.Status, map[string]uint64{tc.kind: 20})
			equal(t, "blocked", s.Blocked == 20, tc.class == blocked)
			equal(t, "passed", s.Passed == 20, tc.class == passed)
			equal(t, "connections", s.Connections, 20)
		})
	}
}

func TestTCPSilenceFails(t *testing.T) {
	port := serveTCP(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	s := run(t, Options{Proto: TCP, Port: port, Requests: 4, Timeout: 10 * time.Millisecond})
	equal(t, "errors", s.Errors, map[string]uint64{"timeout": 4})
}

// unusedPort returns a port that nobody listens on.
func unusedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestNobodyListens(t *testing.T) {
	for _, proto := range []Proto{HTTP1, H2C, TCP} {
		s, err := Run(t.Context(), Options{Proto: proto, Port: unusedPort(t), Requests: 20})
		if !errors.Is(err, ErrNothingSent) || s.Failed != 20 || s.Errors["connect"] != 20 {
			t.Errorf("%s: error %v, summary %+v", proto, err, s)
		}
	}
}

// TestEndOfContext ends a run whose server never answers: what is outstanding is counted, and nothing is lost.
func TestEndOfContext(t *testing.T) {
	for _, proto := range []Proto{HTTP1, H2C, TCP} {
		t.Run(string(proto), func(t *testing.T) {
			arrived, release := make(chan struct{}, 100), make(chan struct{})
			port := serve(t, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release })
			t.Cleanup(func() { close(release) })
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-arrived; <-arrived; cancel() }()
			s, err := Run(ctx, Options{Proto: proto, Port: port, Path: "x", Connections: 2, Duration: time.Hour, Timeout: time.Hour})
			if err != nil || s.Sent != 2 || s.Errors["interrupted"] != 2 {
				t.Errorf("error %v, summary %+v", err, s)
			}
		})
	}
}

// TestOneConnectionOnly: with one connection, all requests come over it, also when many are outstanding.
func TestOneConnectionOnly(t *testing.T) {
	for name, o := range shapes {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			from := map[string]bool{}
			o.Port = serve(t, func(_ http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				from[r.RemoteAddr] = true
			})
			o.Connections, o.Pipeline, o.Requests = 1, 32, 300
			s := run(t, o)
			if len(from) != 1 || s.Connections != 1 {
				t.Errorf("requests came from %d connections, client counted %d, want 1", len(from), s.Connections)
			}
		})
	}
}

// TestH2StreamsAreConcurrent: the server answers none before Pipeline of them are there.
func TestH2StreamsAreConcurrent(t *testing.T) {
	var there sync.WaitGroup
	there.Add(8)
	port := serve(t, func(http.ResponseWriter, *http.Request) { there.Done(); there.Wait() })
	s := run(t, Options{Proto: H2C, Port: port, Connections: 1, Pipeline: 8, Requests: 8})
	equal(t, "passed", s.Passed, 8)
}

// TestOpenLoopCountsWaitsOfBusyConnections: a stalled connection's requests keep their due times, so the stall shows in
// the latency and in Behind or Unsent.
func TestOpenLoopCountsWaitsOfBusyConnections(t *testing.T) {
	clock := &fakeClock{}
	tally := newTally(clock)
	sched := &schedule{qps: 100, duration: time.Second, clock: clock}
	runLane(t.Context(), t.Context(), sched, tally, &stallingLane{tally: tally, clock: clock})
	s := tally.summary()
	// The first answer takes 500 ms; the others are at once. Those due meanwhile waited 490, 480, … 0 ms.
	equal(t, "sent", s.Sent, 100)
	equal(t, "max", s.Max, 500*time.Millisecond)
	equal(t, "behind", s.Behind, 48) // due at 10, 20, … 480 ms: waited for more than 10 ms
	if s.P50 > time.Millisecond || s.P90 < 390*time.Millisecond {
		t.Errorf("p50 %v, p90 %v", s.P50, s.P90)
	}
}

type stallingLane struct {
	tally *tally
	clock *fakeClock
	n     int
}

func (l *stallingLane) depth() int { return 1 }
func (l *stallingLane) close()     {}
func (l *stallingLane) exchange(_ context.Context, due []time.Duration) {
	if l.n++; l.n == 1 {
		l.clock.advanceTo(500 * time.Millisecond)
	}
	l.tally.http(due[0], answer{status: 200, grpc: -1})
}

func TestUnsentIsCounted(t *testing.T) {
	release := make(chan struct{})
	port := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := Run(ctx, Options{Port: port, QPS: 100, Connections: 1, Duration: 100 * time.Millisecond, Timeout: time.Hour,
		// The stall outlasts the duration by far: the first report comes after it.
		OnSecond: func(Second) {
			select {
			case <-release:
			default:
				close(release)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "sent", s.Sent, 1)
	equal(t, "unsent", s.Unsent, 9)
}

func TestReportsComeAsOftenAsAsked(t *testing.T) {
	port := serve(t, func(http.ResponseWriter, *http.Request) {})
	reports, sent := 0, uint64(0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := Run(ctx, Options{Port: port, QPS: 1000, Duration: time.Minute, Every: minEvery, OnSecond: func(s Second) {
		sent += s.Sent
		if reports++; reports == 50 {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if s.Elapsed >= 50*time.Second { // which as many seconds take
		t.Errorf("50 reports in %v", s.Elapsed)
	}
	equal(t, "sum of the reports", sent, s.Sent)
}

func TestSecondsAddUpToTheSummary(t *testing.T) {
	clock := &fakeClock{}
	tally := newTally(clock)
	due := []time.Duration{0}
	tally.sent(due, 0, true)
	tally.sent(due, 20*time.Millisecond, true)
	clock.advanceTo(time.Second)
	tally.http(0, answer{status: 200, grpc: -1})
	first := tally.endSecond(1)
	equal(t, "first", first.Counts, Counts{Sent: 2, Passed: 1, Behind: 1})
	equal(t, "p50", first.P50, time.Second)
	tally.sent(due, 0, false)
	tally.fail([]time.Duration{0, 0}, failClosed, io.EOF)
	equal(t, "second", tally.endSecond(2).Counts, Counts{Sent: 1, Failed: 2})
	equal(t, "total", tally.summary().Counts, Counts{Sent: 3, Passed: 1, Failed: 2, Behind: 1})
	line := "  1s  sent 2  passed 1  blocked 0  failed 0  p50 1s  p99 1s  behind 1"
	equal(t, "line", first, line)
}

func TestOptionsAllMistakesAtOnce(t *testing.T) {
	_, err := Run(t.Context(), Options{
		Host: "192.0.2.1", Port: 70000, Proto: "spdy", Path: "a b", Method: "G T", QPS: -1, Duration: 2 * time.Hour,
		Connections: -1, Pipeline: 1000, Timeout: -1, Every: 1,
		Header: http.Header{"Content-Length": {"1"}, "X": {"a\r\nb"}, "b d": {""}},
	})
	for _, want := range []string{"loopback", "port: ", "proto: ", "path ", "method ", "requests per second: ", "duration: ",
		"connections: ", "pipeline: ", "timeout: ", "every: ", `"Content-Length"`, `"X": control`, `"b d"`} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("no mention of %q in: %v", want, err)
		}
	}
}

func TestLoopbackOnly(t *testing.T) {
	for host, ok := range map[string]bool{
		"": true, "localhost": true, "127.0.0.1": true, "127.8.9.1": true, "::1": true,
		"0.0.0.0": false, "10.0.0.1": false, "example.org": false, "::": false, "localhost.example.org": false,
	} {
		_, err := Options{Host: host, Port: 1}.withDefaults().target()
		if (err == nil) != ok {
			t.Errorf("host %q: error %v", host, err)
		}
	}
}

func TestMainSummary(t *testing.T) {
	port := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Block") != "" {
			w.WriteHeader(429)
		}
	})
	args := []string{"-q", "0", "-n", "5", "-u", "some-test", "-p", strconv.Itoa(port)}

	var out, errs strings.Builder
	equal(t, "exit code", Main(t.Context(), args, &out, &errs), exitOK)
	for _, want := range []string{"sent 5  passed 5  blocked 0  failed 0", "p50 ", "answers  200: 5"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s%s", want, &out, &errs)
		}
	}

	out.Reset()
	equal(t, "exit code", Main(t.Context(), append(args, "-json", "-H", "X-Block: yes"), &out, &errs), exitOK)
	var got struct {
		Sent, Blocked uint64
		Status        map[string]uint64
		P50           *float64 `json:"p50_ms"`
	}
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil || got.Sent != 5 || got.Blocked != 5 || got.Status["429"] != 5 || got.P50 == nil {
		t.Errorf("JSON: %v, %+v, from:\n%s", err, got, &out)
	}
}

func TestMainMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"":                                    "-q is required",
		"-q 1":                                "-p is required",
		"-q x -p 1":                           "invalid value",
		"-q 1 -p 1 more":                      "unexpected argument",
		"-q 1 -p 1 -tcp -proto h2c":           "contradicts",
		"-q 1 -p 1 -d 0":                      "-d must be above 0",
		"-q 1 -p 1 -c 0":                      "-c must be above 0",
		"-q 1 -p 1 -d 2h":                     "at most 1h",
		"-q NaN -p 1":                         "requests per second",
		"-q 1 -p 1 -host 192.0.2.7":           "somebody else's machine",
		"-q 1 -p 1 -H nocolon":                "Name: value",
		"-q 1 -p 1 -nosuch":                   "not defined",
		"-q 1 -p 1 -proto tcp -pipeline 2":    "one request per connection",
		"-q 1 -p 1 -H Transfer-Encoding:gzip": "client's own",
	} {
		var out, errs strings.Builder
		code := Main(t.Context(), strings.Fields(args), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("load %s: code %d, %q; want %d and %q", args, code, &errs, exitUsage, want)
		}
	}
	var out, errs strings.Builder
	equal(t, "code of -h", Main(t.Context(), []string{"-h"}, &out, &errs), exitOK)
	code := Main(t.Context(), []string{"-q", "0", "-n", "3", "-p", strconv.Itoa(unusedPort(t))}, &out, &errs)
	if code != exitNothingSent || !strings.Contains(errs.String(), "nothing could be sent") {
		t.Errorf("nobody listens: code %d, %q", code, &errs)
	}
}

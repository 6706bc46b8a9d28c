package soak

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// stormHTTP opens connections and drops them: without a word, amid a request, and right after one.
func stormHTTP(s *siege) string {
	const n = 4000
	before := s.Sum("sentinel_passed", "resource", "attacked")
	each(n, 32, func(i int) {
		c := s.open("http")
		if c == nil {
			return
		}
		defer c.Close()
		switch i % 5 {
		case 1:
			_ = c.SetLinger(0)
		case 2:
			_, _ = io.WriteString(c, "GET /plain HT")
			_ = c.SetLinger(0)
		case 3:
			_, _ = io.WriteString(c, "GET /plain HTTP/1.1\r\nhost: a\r\n\r\n")
			_ = c.SetLinger(0)
		case 4:
			_, _ = io.WriteString(c, "GET /hold HTTP/1.1\r\nhost: a\r\nx-user: "+fmt.Sprint(i)+"\r\n\r\n")
		}
	})
	s.leaveNothing()
	return fmt.Sprintf("%d connections, %.0f requests let in", n, s.Sum("sentinel_passed", "resource", "attacked")-before)
}

// openSlow opens a connection for a slow client: those with an even number come to an end, the others are for the listener
// that gives up on them. It is nil where it was closed at once, which is a failure.
func (s *siege) openSlow(i int) (c *net.TCPConn, ends bool) {
	listener, ends := "http", i%2 == 0
	if !ends {
		listener = "strict"
	}
	if c = s.open(listener); c == nil {
		s.t.Error("closed at once")
	}
	return c, ends
}

// slowHeaders sends requests byte by byte: some come to an end, others the listener with a time limit gives up on.
func slowHeaders(s *siege) string {
	const n = 60
	before := s.Sum("sentinel_passed", "resource", "attacked")
	var served, dropped atomic.Int64
	each(2*n, 2*n, func(i int) {
		c, ends := s.openSlow(i)
		if c == nil {
			return
		}
		defer c.Close()
		sent := trickle(c, "GET /plain HTTP/1.1\r\nhost: a\r\nx-slow: "+strings.Repeat("x", 60), 15*time.Millisecond)
		if ends {
			_, _ = io.WriteString(c, "\r\n\r\n")
		} else {
			for sent { // to the end of Envoy's patience
				sent = trickle(c, "x", 15*time.Millisecond)
			}
		}
		switch status := statusOf(c); {
		case ends && (status == 200 || status == 429):
			served.Add(1)
		case !ends && (status == 408 || status == 0):
			dropped.Add(1)
		default:
			s.t.Errorf("a slow client that ends (%t) got %d", ends, status)
		}
	})
	s.leaveNothing()
	if passed := s.Sum("sentinel_passed", "resource", "attacked") - before; passed > n || passed == 0 {
		s.t.Errorf("%v requests passed, but %d were made", passed, n)
	}
	return fmt.Sprintf("%d clients served, %d given up by Envoy", served.Load(), dropped.Load())
}

// trickle writes byte by byte, and tells whether the other side still listens.
func trickle(c net.Conn, text string, every time.Duration) bool {
	for i := range len(text) {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return false
		}
		time.Sleep(every) // the client's pace
	}
	return true
}

// statusOf is that of the answer that comes, 0 where none does.
func statusOf(c net.Conn) int {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// slowBodies sends bodies byte by byte: some come to an end, others stop half-way.
func slowBodies(s *siege) string {
	const n = 40
	var served, dropped atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		each(2*n, 2*n, func(i int) {
			c, ends := s.openSlow(i)
			if c == nil {
				return
			}
			defer c.Close()
			const length = 50
			_, _ = fmt.Fprintf(c, "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n", 2*length)
			trickle(c, strings.Repeat("x", length), 20*time.Millisecond)
			if ends {
				_, _ = io.WriteString(c, strings.Repeat("x", length))
			}
			switch status := statusOf(c); {
			case ends && status == 200:
				served.Add(1)
			case !ends && (status == 408 || status == 0):
				dropped.Add(1)
			default:
				s.t.Errorf("a slow client that ends (%t) got %d", ends, status)
			}
		})
	}()
	most := 0.0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			most = max(most, s.Sum("sentinel_in_flight", "resource", "attacked"))
			time.Sleep(50 * time.Millisecond)
		}
	}
	if most == 0 {
		s.t.Error("none was ever seen in flight")
	}
	return fmt.Sprintf("%d clients served, %d given up by Envoy, up to %.0f in flight", served.Load(), dropped.Load(), most)
}

// slowReaders ask for large bodies and don't read them: in flight all the time. Then half of them leave.
func slowReaders(s *siege) string {
	const n = 40
	var conns []*net.TCPConn
	for len(conns) < n {
		c := s.Dial("http")
		_ = c.SetReadBuffer(64 << 10)
		_ = c.SetDeadline(time.Now().Add(2 * soon))
		if _, err := io.WriteString(c, "GET /large HTTP/1.1\r\nhost: a\r\n\r\n"); err != nil {
			s.t.Fatal(err)
		}
		conns = append(conns, c)
	}
	two := s.frames("http")
	for range n {
		two.headers(true, ":path", "/large")
	}
	waitMetric(s.t, s.Envoy, 2*n, "sentinel_in_flight", "resource", "attacked")
	waitTicks(s.t, s.Envoy, 500) // still so when everything has been quiet for a while
	if got := s.Sum("sentinel_in_flight", "resource", "attacked"); got != 2*n {
		s.t.Errorf("%v are in flight, want %d", got, 2*n)
	}
	_ = two.conn.Close()
	for i, c := range conns {
		if i%2 == 0 {
			envoytest.Reset(c)
		}
	}
	waitMetric(s.t, s.Envoy, n/2, "sentinel_in_flight", "resource", "attacked")
	for i, c := range conns {
		if i%2 == 1 {
			if status := statusOf(c); status != 200 {
				s.t.Errorf("a slow reader got %d", status)
			}
			c.Close()
		}
	}
	return fmt.Sprintf("%d held in flight, %d left, %d read to the end", 2*n, 3*n/2, n/2)
}

// stage is a point in the life of a stream at which it can be reset.
type stage struct {
	name     string
	resource string // in which it is then
	inFlight bool   // whether it has entered
	open     string // what the client sends until then
	answered bool   // whether an answer has begun
}

var stages = []stage{
	{name: "amid the headers", open: "POST /body HTTP/1.1\r\nhost: a\r\nx-"},
	{name: "after the headers", resource: "attacked", inFlight: true, open: "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n"},
	{name: "amid the body", resource: "attacked", inFlight: true, open: "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf"},
	{name: "while it waits", resource: "/queue", open: "GET /queue HTTP/1.1\r\nhost: a\r\n\r\n"},
	{name: "before the answer", resource: "attacked", inFlight: true, open: "GET /hold HTTP/1.1\r\nhost: a\r\n\r\n"},
	{name: "after the answer's headers", resource: "attacked", inFlight: true, answered: true, open: "GET /head HTTP/1.1\r\nhost: a\r\n\r\n"},
	{name: "amid the answer", resource: "attacked", inFlight: true, answered: true, open: "GET /half HTTP/1.1\r\nhost: a\r\n\r\n"},
}

// resets1 resets connections of HTTP/1.1 at every stage.
func resets1(s *siege) string {
	const n = 80
	for _, stage := range stages {
		var conns []*net.TCPConn
		before := s.entered(stage.resource)
		for range n {
			c := s.Dial("http")
			if _, err := io.WriteString(c, stage.open); err != nil {
				s.t.Fatal(err)
			}
			if stage.answered {
				_ = c.SetReadDeadline(time.Now().Add(soon))
				if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
					s.t.Fatalf("%s: %v", stage.name, err)
				}
			}
			conns = append(conns, c)
		}
		s.arrive(stage, before, n, func(stats map[string]float64) bool { return stats["http.http.downstream_cx_active"] >= n })
		for _, c := range conns {
			envoytest.Reset(c)
		}
		s.leaveNothing()
	}
	return fmt.Sprintf("%d connections at each of %d stages", n, len(stages))
}

// entered is how many requests have entered a resource.
func (s *siege) entered(resource string) float64 {
	s.t.Helper()
	return s.Sum("sentinel_passed", "resource", resource)
}

// arrive waits until n streams have come to a stage. Some of those in the queue have had their turn by then.
func (s *siege) arrive(at stage, before float64, n int, connected func(stats map[string]float64) bool) {
	s.t.Helper()
	switch {
	case at.inFlight:
		waitMetric(s.t, s.Envoy, float64(n), "sentinel_in_flight", "resource", at.resource)
	case at.resource == "/queue":
		active := 0.0
		envoytest.Eventually(s.t, soon, "requests wait", func() bool {
			active = s.Stats()["http.http.downstream_rq_active"]
			return active+s.entered(at.resource)-before >= float64(n)
		})
		if active < float64(n)/2 {
			s.t.Errorf("only %v of %d wait", active, n)
		}
	default:
		envoytest.Eventually(s.t, soon, "clients are connected", func() bool { return connected(s.Stats()) })
	}
}

// resetsUpstream has the upstream reset streams, before its answer and amid it: each counts as a failure.
func resetsUpstream(s *siege) string {
	const n = 50
	failed := s.Sum("sentinel_failed", "resource", "attacked")
	for _, path := range []string{"/abort", "/abort-half"} {
		for _, two := range []bool{false, true} {
			each(n, 32, func(int) {
				client := envoytest.NewHTTPClient(two)
				defer client.CloseIdleConnections()
				for { // until it is let in
					r, err := envoytest.Do(s.t.Context(), client, "GET", "http://"+s.Addr("http")+path)
					if err == nil && r.Status == 429 {
						time.Sleep(20 * time.Millisecond)
						continue
					}
					if path == "/abort" && (err != nil || r.Status != 503) || path == "/abort-half" && err == nil {
						s.t.Errorf("%s: %d, %v", path, r.Status, err)
					}
					return
				}
			})
		}
	}
	waitMetric(s.t, s.Envoy, failed+4*n, "sentinel_failed", "resource", "attacked")
	return fmt.Sprintf("%d streams reset, each counted as failed", 4*n)
}

// bigHeaders sends a MiB of headers: in one header, which is a rule's parameter; in ten thousand; and in the path. A listener
// that takes them decides as ever, one that does not answers before it is asked.
func bigHeaders(s *siege) string {
	const n = 30
	var many strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&many, "x-%05d: %s\r\n", i, strings.Repeat("v", 96))
	}
	big := strings.Repeat("v", 1<<20)
	requests := []string{
		"GET /plain HTTP/1.1\r\nhost: a\r\nx-user: " + big + "\r\n\r\n",
		"GET /plain HTTP/1.1\r\nhost: a\r\n" + many.String() + "\r\n",
		"GET /plain?" + big + " HTTP/1.1\r\nhost: a\r\n\r\n",
		"GET /plain/" + big + " HTTP/1.1\r\nhost: a\r\n\r\n",
	}
	before, refused := s.entered("attacked"), s.Sum("sentinel_blocked", "resource", "attacked")
	answers := map[string]*[600]atomic.Int64{"big": {}, "http": {}}
	for listener, count := range answers {
		each(n*len(requests), 8, func(i int) {
			c := s.open(listener)
			if c == nil {
				s.t.Error("closed at once")
				return
			}
			defer c.Close()
			go func() { _, _ = io.WriteString(c, requests[i%len(requests)]) }() // Envoy may answer before it has all
			count[statusOf(c)].Add(1)
		})
	}
	taken := answers["big"][200].Load() + answers["big"][429].Load()
	if taken != int64(n*len(requests)) {
		s.t.Errorf("the listener that takes 2 MiB answers %d of %d", taken, n*len(requests))
	}
	turned := answers["http"][431].Load() + answers["http"][0].Load() // 0: reset before the answer was read
	if turned != int64(n*len(requests)) {
		s.t.Errorf("the listener that takes 60 KiB turns away %d of %d", turned, n*len(requests))
	}
	two := s.bigHeaders2(big)
	s.leaveNothing()
	passed := s.entered("attacked") - before
	refused = s.Sum("sentinel_blocked", "resource", "attacked") - refused
	if passed+refused != float64(taken)+two {
		s.t.Errorf("%v passed and %v were refused, but %d and %v were taken", passed, refused, taken, two)
	}
	return fmt.Sprintf("%d requests with a MiB taken and decided, %d turned away by Envoy", taken+int64(two), turned)
}

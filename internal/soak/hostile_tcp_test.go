package soak

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// stormTCP opens connections and drops them: by a reset, in order, after a word.
func stormTCP(s *siege) string {
	const n = 6000
	before := s.Sum("sentinel_passed", "resource", "tcp")
	each(n, 32, func(i int) {
		c := s.open("tcp")
		if c == nil {
			return
		}
		defer c.Close()
		if i%3 > 0 {
			_ = c.SetLinger(0)
		}
		if i%3 > 1 {
			_, _ = io.WriteString(c, "word")
		}
	})
	s.leaveNothing()
	return fmt.Sprintf("%d connections, %.0f let in", n, s.Sum("sentinel_passed", "resource", "tcp")-before)
}

// resetsTCP resets connections at every stage of their life.
func resetsTCP(s *siege) string {
	const n = 40
	stages := []struct {
		name, listener string
		come           func(c *net.TCPConn) error
	}{
		{"before a word", "tcp", func(*net.TCPConn) error { return nil }},
		{"after a word", "tcp", func(c *net.TCPConn) error {
			_, err := io.WriteString(c, "word")
			return err
		}},
		{"after an answer", "tcp", func(c *net.TCPConn) error {
			_, err := io.WriteString(c, "word")
			return errors.Join(err, hear(c, "word"))
		}},
		{"amid an answer", "tcp-speaker", func(c *net.TCPConn) error {
			_ = c.SetReadBuffer(4 << 10)
			if err := hear(c, greeting); err != nil {
				return err
			}
			_, err := io.WriteString(c, "flood")
			if err == nil {
				_, err = io.ReadFull(c, make([]byte, 1000))
			}
			return err
		}},
		{"while it waits", "tcp-queue", func(c *net.TCPConn) error {
			_, err := io.WriteString(c, "word")
			return err
		}},
	}
	early, late := 0.0, 0.0
	for _, stage := range stages {
		before := s.entered("tcp-queue")
		var conns []*net.TCPConn
		for range n {
			c := s.Dial(stage.listener)
			_ = c.SetDeadline(time.Now().Add(soon))
			if err := stage.come(c); err != nil {
				s.t.Fatalf("%s: %v", stage.name, err)
			}
			conns = append(conns, c)
		}
		if stage.listener == "tcp-queue" {
			envoytest.Eventually(s.t, soon, "connections wait", func() bool {
				return s.Stats()["tcp.tcp-queue.downstream_cx_total"] == n
			})
			if early = s.entered("tcp-queue") - before; early > n/2 {
				s.t.Errorf("%v of %d do not wait", early, n)
			}
		} else {
			waitMetric(s.t, s.Envoy, n, "sentinel_in_flight", "resource", "tcp")
		}
		for _, c := range conns {
			envoytest.Reset(c)
		}
		if stage.listener == "tcp-queue" {
			// Envoy's TCP proxy does not read before the upstream is connected: it hears of the end when their turn has come.
			late = s.ceases("tcp-queue") - before - early
		}
		s.leaveNothing()
	}
	return fmt.Sprintf("%d connections at each of %d stages; %.0f of those that left while they waited were still let in", n, len(stages), late)
}

// ceases waits until nothing has entered a resource for a second, and gives how many have.
func (s *siege) ceases(resource string) (entered float64) {
	s.t.Helper()
	since := time.Now()
	envoytest.Eventually(s.t, 2*soon, "nothing enters "+resource+" any more", func() bool {
		if now := s.entered(resource); now != entered {
			entered, since = now, time.Now()
		}
		return time.Since(since) > time.Second
	})
	return entered
}

// halfOpen closes one direction: clients that have said all and wait for the answer, an upstream that has said all and
// goes on listening, and both. They are in flight until the other direction ends.
func halfOpen(s *siege) string {
	const n = 40
	dial := func(listener string) (conns []*net.TCPConn) {
		for range n {
			c := s.Dial(listener)
			_ = c.SetDeadline(time.Now().Add(2 * soon))
			conns = append(conns, c)
		}
		return conns
	}
	say := func(c *net.TCPConn, words string) {
		s.t.Helper()
		if _, err := io.WriteString(c, words); err != nil {
			s.t.Fatal(err)
		}
	}

	// The client's direction ends first; the speaker answers only then, when it is told to.
	conns := dial("tcp-speaker")
	for _, c := range conns {
		say(c, "late")
		if err := c.CloseWrite(); err != nil {
			s.t.Fatal(err)
		}
	}
	waitMetric(s.t, s.Envoy, n, "sentinel_in_flight", "resource", "tcp")
	waitTicks(s.t, s.Envoy, 250) // nothing happens by itself
	if got := s.Sum("sentinel_in_flight", "resource", "tcp"); got != n {
		s.t.Errorf("%v half-closed connections are in flight, want %d", got, n)
	}
	s.speaker.release()
	for _, c := range conns {
		if got, err := io.ReadAll(c); err != nil || string(got) != greeting+"late answer" {
			s.t.Errorf("a half-closed client got %q, %v", got, err)
		}
	}
	s.leaveNothing()

	// The upstream's direction ends first.
	conns = dial("tcp-speaker")
	for _, c := range conns {
		say(c, "hush")
		if got, err := io.ReadAll(c); err != nil || string(got) != greeting {
			s.t.Errorf("from an upstream that half-closes came %q, %v", got, err)
		}
	}
	waitMetric(s.t, s.Envoy, n, "sentinel_in_flight", "resource", "tcp")
	for _, c := range conns {
		say(c, "more") // it can still be told something
	}
	if got := s.Sum("sentinel_in_flight", "resource", "tcp"); got != n {
		s.t.Errorf("%v connections of a half-closed upstream are in flight, want %d", got, n)
	}
	for i, c := range conns {
		if i%2 == 0 {
			envoytest.Reset(c)
		} else {
			c.Close()
		}
	}
	s.leaveNothing()
	return fmt.Sprintf("%d connections half-closed by clients and answered, %d by the upstream", n, n)
}

// vanish has clients that fall silent for ever without closing: the operator's time limits end what they hold.
func vanish(s *siege) string {
	const n = 40
	for range n {
		if s.converse("tcp-strict") == nil {
			s.t.Fatal("refused")
		}
		c := s.Dial("strict")
		if _, err := io.WriteString(c, "GET /hold HTTP/1.1\r\nhost: a\r\n\r\n"); err != nil {
			s.t.Fatal(err)
		}
	}
	began := time.Now()
	var most atomic.Int64
	envoytest.Eventually(s.t, soon, "what vanished clients held is free", func() bool {
		all := s.Prometheus()
		now := envoytest.Sum(all, "sentinel_in_flight", "resource", "tcp") + envoytest.Sum(all, "sentinel_in_flight", "resource", "attacked")
		most.Store(max(most.Load(), int64(now)))
		return now == 0 && most.Load() > 0
	})
	return fmt.Sprintf("%d requests and %d connections, all ended after %.1f s at a limit of %v", n, n, time.Since(began).Seconds(), tooSlow)
}

// messages has clients that are to be told why they were blocked, by an upstream that does not speak: some leave, some wait,
// some speak themselves.
func messages(s *siege) string {
	const n = 600
	var got atomic.Int64
	each(n, n, func(i int) {
		c := s.open("tcp-message")
		if c == nil {
			return
		}
		defer c.Close()
		switch i % 3 {
		case 0:
			_ = c.SetLinger(0)
		case 1:
			_, _ = io.WriteString(c, "let me in")
			fallthrough
		case 2:
			words, err := io.ReadAll(c)
			if unlessClosed(err) != nil || len(words) > 0 {
				s.t.Errorf("a blocked client got %q, %v", words, err)
			}
			got.Add(1)
		}
	})
	envoytest.Eventually(s.t, soon, "each is counted as blocked, and none is open", func() bool {
		return s.Sum("sentinel_blocked", "resource", "tcp-message") == s.Stats()["tcp.tcp-message.downstream_cx_total"] &&
			s.upstreamConnections() == 0
	})
	return fmt.Sprintf("%d connections, %d stayed until they were closed", n, got.Load())
}

// upstreamConnections is how many connections Envoy has to all upstreams of TCP listeners.
func (s *siege) upstreamConnections() (open float64) {
	s.t.Helper()
	for name, value := range s.Stats() {
		if strings.HasPrefix(name, "cluster."+s.echo+".") && strings.HasSuffix(name, "upstream_cx_active") {
			open += value
		}
	}
	return open
}

const greeting = "hello\n"

// hear reads exactly these words.
func hear(c net.Conn, words string) error {
	got := make([]byte, len(words))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != words {
		return fmt.Errorf("read %q, %w, want %q", got, err, words)
	}
	return nil
}

// speaker is a TCP upstream that greets, and then does what it is told: "flood" to speak without end, "late" to answer
// after the client's end and release, "hush" to say no more and listen.
type speaker struct {
	addr  string
	later chan struct{}
}

func startSpeaker(t *testing.T) *speaker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &speaker{addr: l.Addr().String(), later: make(chan struct{})}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c.(*net.TCPConn))
		}
	}()
	return s
}

// release lets late answers come.
func (s *speaker) release() { close(s.later) }

func (s *speaker) serve(c *net.TCPConn) {
	defer c.Close()
	if _, err := io.WriteString(c, greeting); err != nil {
		return
	}
	order := make([]byte, 5)
	n, err := c.Read(order)
	if err != nil {
		return
	}
	switch string(order[:n]) {
	case "flood":
		for err == nil {
			_, err = c.Write(chunk)
		}
	case "late":
		if _, err := io.Copy(io.Discard, c); err == nil {
			<-s.later
			_, _ = io.WriteString(c, "late answer")
		}
	case "hush":
		_ = c.CloseWrite()
		_, err := io.Copy(io.Discard, c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			return
		}
	}
}

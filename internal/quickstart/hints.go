package quickstart

import (
	"fmt"
	"io"
	"path/filepath"
)

// A hint is a line about what to try. %d in its command is the port of its place, without which it is not shown.
type hint struct {
	place, label, command string
	ofSample              bool // only true of the sample's own rules
}

var hints = []hint{
	{placeHTTP, "one HTTP request", "curl -i http://127.0.0.1:%d/some-test", false},
	{placeTCP, "one TCP connection", "curl -i http://127.0.0.1:%d/some-test", false},
	{placeHTTP, "a blocked one", "curl -si 'http://127.0.0.1:%d/some-test?[1-60]' | tail -n 9    (the last of 60)", true},
	{placeHTTP, "100 requests/s", "go run ./cmd/sentinel load -q 100 -u some-test -p %d", false},
	{placeTCP, "100 connections/s", "go run ./cmd/sentinel load -q 100 -u some-test -p %d -tcp", false},
	{placeAdmin, "what passed", "curl -s http://127.0.0.1:%d/stats/prometheus | grep sentinel", false},
	{placeUpstream, "the service itself", "http://127.0.0.1:%d/", false},
}

// printHints says that Envoy is ready, and what to try with what the bootstrap has.
func printHints(w io.Writer, s settings, b *bootstrap) {
	ports := map[string]int{}
	for _, l := range b.used(s.ports) {
		ports[l.place] = l.Number
	}
	isSample := filepath.ToSlash(filepath.Clean(s.config)) == sampleConfig
	fmt.Fprint(w, "\nReady. Ctrl-C ends everything. To try, in another terminal:\n\n")
	for _, h := range hints {
		if port, found := ports[h.place]; found && (isSample || !h.ofSample) {
			fmt.Fprintf(w, "  %-20s "+h.command+"\n", h.label, port)
		}
	}
	fmt.Fprintln(w)
}

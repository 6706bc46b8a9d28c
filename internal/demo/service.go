package demo

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// reportTakes is how long a report takes to make, brokenTakes how long the service takes to fail.
	reportTakes = 400 * time.Millisecond
	brokenTakes = 800 * time.Millisecond
	payTakes    = 10 * time.Millisecond
)

// service is what Envoy guards.
type service struct{ failing atomic.Bool }

// ServeHTTP answers shopPath at once, reportPath slowly, and payPath with 503 while it fails.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case reportPath:
		pause(r, reportTakes)
	case payPath:
		if s.failing.Load() {
			pause(r, brokenTakes)
			http.Error(w, "out of order", http.StatusServiceUnavailable)
			return
		}
		pause(r, payTakes)
	}
	io.WriteString(w, "ok\n")
}

// pause returns after d, or when the client has gone.
func pause(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

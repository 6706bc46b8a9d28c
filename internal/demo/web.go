package demo

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

//go:embed page.html
var page []byte

const (
	// maxViewers bounds how many pages are told news at once, and behind how many a slow one may miss before it is dropped.
	maxViewers = 32
	behind     = 16
	// writeWithin bounds how long a page may take to read a piece of news.
	writeWithin = 5 * time.Second
	maxBody     = 1 << 10
)

// web is the page's server.
type web struct {
	addr   string // host:port of the page
	rules  *rules
	player *player

	mu      sync.Mutex
	history []json.RawMessage
	viewers map[chan json.RawMessage]bool
}

func newWeb(addr string, r *rules, p *player) *web {
	return &web{addr: addr, rules: r, player: p, viewers: map[chan json.RawMessage]bool{}}
}

// handler gives the page, the stream of its news, and takes what is changed on it.
func (w *web) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("content-type", "text/html; charset=utf-8")
		rw.Header().Set("content-security-policy", "default-src 'self'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'")
		rw.Write(page)
	})
	mux.HandleFunc("GET /events", w.events)
	mux.HandleFunc("POST /threshold", w.threshold)
	mux.HandleFunc("POST /chapter", w.chapter)
	return w.localOnly(mux)
}

// localOnly refuses requests of pages of other origins: by name, for a page whose name has become a loopback address, and
// by content type, which another origin's page may not send unasked.
func (w *web) localOnly(next http.Handler) http.Handler {
	_, port, _ := net.SplitHostPort(w.addr)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host != w.addr && r.Host != net.JoinHostPort("localhost", port):
			http.Error(rw, "unknown host", http.StatusMisdirectedRequest)
		case r.Method == http.MethodPost && r.Header.Get("content-type") != "application/json":
			http.Error(rw, "must be application/json", http.StatusUnsupportedMediaType)
		default:
			next.ServeHTTP(rw, r)
		}
	})
}

// publish tells all pages a snapshot. A page that is too far behind is dropped; its browser connects again.
func (w *web) publish(s snapshot) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.history = append(w.history, text); len(w.history) > remembered {
		w.history = w.history[1:]
	}
	for viewer := range w.viewers {
		select {
		case viewer <- text:
		default:
			delete(w.viewers, viewer)
			close(viewer)
		}
	}
	return nil
}

// join gives a viewer, and what there was before; nil where there are too many.
func (w *web) join() (viewer chan json.RawMessage, history []json.RawMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.viewers) >= maxViewers {
		return nil, nil
	}
	viewer = make(chan json.RawMessage, behind)
	w.viewers[viewer] = true
	return viewer, append(history, w.history...)
}

func (w *web) leave(viewer chan json.RawMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.viewers, viewer)
}

// events streams snapshots: first those of the last two minutes, as one event named "history", then each as a message.
func (w *web) events(rw http.ResponseWriter, r *http.Request) {
	viewer, history := w.join()
	if viewer == nil {
		http.Error(rw, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	defer w.leave(viewer)
	rw.Header().Set("content-type", "text/event-stream")
	rw.Header().Set("cache-control", "no-store")
	past, err := json.Marshal(history)
	if err == nil {
		err = send(rw, "event: history\ndata: %s\n\n", past)
	}
	for err == nil {
		select {
		case text, open := <-viewer:
			if !open {
				return
			}
			err = send(rw, "data: %s\n\n", text)
		case <-r.Context().Done():
			return
		}
	}
}

func send(rw http.ResponseWriter, format string, text []byte) error {
	c := http.NewResponseController(rw)
	if err := c.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(rw, format, text); err != nil {
		return err
	}
	return c.Flush()
}

// threshold changes a rule: {"rule": "shop-qps", "threshold": 200}.
func (w *web) threshold(rw http.ResponseWriter, r *http.Request) {
	var ask struct {
		Rule      string  `json:"rule"`
		Threshold float64 `json:"threshold"`
	}
	if !read(rw, r, &ask) {
		return
	}
	if err := w.rules.set(ask.Rule, ask.Threshold); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	rw.WriteHeader(http.StatusNoContent)
}

// chapter goes to a chapter: {"name": "flood"}.
func (w *web) chapter(rw http.ResponseWriter, r *http.Request) {
	var ask struct {
		Name string `json:"name"`
	}
	if !read(rw, r, &ask) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), writeWithin)
	defer cancel()
	if !w.player.jump(ctx, ask.Name) {
		http.Error(rw, fmt.Sprintf("cannot go to a chapter %q", ask.Name), http.StatusBadRequest)
		return
	}
	rw.WriteHeader(http.StatusNoContent)
}

// read reads the body, and has answered where it cannot.
func read(rw http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(rw, r.Body, maxBody)).Decode(into); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

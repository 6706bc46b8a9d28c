package demo

import (
	"context"
	"sync"
	"time"

	"sentinel-envoy/internal/load"
)

// The paths that the service has. Each is a resource with a rule of its own.
const (
	shopPath   = "/shop"
	payPath    = "/pay"
	reportPath = "/report"
)

// chapter is a part of the story.
type chapter struct {
	Name    string        // in the page's requests
	Length  time.Duration // until the next one begins
	Failing bool          // payPath
	rates   map[string]float64
}

// everyReport is how often clients say what became of their requests.
const everyReport = 50 * time.Millisecond

// connections are as many as each path's requests need that wait for an answer at the same time.
var connections = map[string]int{shopPath: 16, payPath: 32, reportPath: 32}

// chapters are the story, with the requests per second to each path.
func chapters(quiet, flood, failing time.Duration) []chapter {
	calm := map[string]float64{shopPath: 60, payPath: 20, reportPath: 8}
	return []chapter{
		{Name: "quiet", Length: quiet, rates: calm},
		{Name: "flood", Length: flood, rates: map[string]float64{shopPath: 300, payPath: 20, reportPath: 40}},
		{Name: "failing", Length: failing, Failing: true, rates: calm},
	}
}

// player plays the chapters in turn, over and over.
type player struct {
	chapters []chapter
	port     int // where the clients send
	// begin is called with each chapter, sent with what clients sent to a path and what became of it.
	begin func(chapter)
	sent  func(path string, c load.Counts)

	jumps chan int // to another chapter
	mu    sync.Mutex
	now   int // index of the chapter
	since time.Time
}

func newPlayer(chapters []chapter, port int) *player {
	return &player{chapters: chapters, port: port, jumps: make(chan int), since: time.Now()}
}

// play plays until ctx ends, and returns when no client is left.
func (p *player) play(ctx context.Context) {
	var clients sync.WaitGroup
	defer clients.Wait()
	for next := 0; ctx.Err() == nil; {
		next = p.playChapter(ctx, next, &clients)
	}
}

// playChapter plays one chapter and gives the next. Clients whose requests are still under way go on for a moment.
func (p *player) playChapter(ctx context.Context, index int, clients *sync.WaitGroup) (next int) {
	c := p.chapters[index]
	ctx, cancel := context.WithTimeout(ctx, c.Length)
	defer cancel()
	p.mu.Lock()
	p.now, p.since = index, time.Now()
	p.mu.Unlock()
	p.begin(c)
	for path := range c.rates {
		clients.Go(func() {
			// The error is that nothing could be sent: then Envoy is gone, which ends everything.
			_, _ = load.Run(ctx, p.options(c, path))
		})
	}
	select {
	case next = <-p.jumps:
		return next
	case <-ctx.Done():
		return (index + 1) % len(p.chapters)
	}
}

func (p *player) options(c chapter, path string) load.Options {
	return load.Options{
		Port: p.port, Path: path, QPS: c.rates[path], Duration: c.Length, Connections: connections[path], Timeout: 5 * time.Second,
		Every: everyReport, OnSecond: func(s load.Second) { p.sent(path, s.Counts) },
	}
}

// jump goes to a chapter by its name, and reports whether there is one and it could be reached before ctx ended.
func (p *player) jump(ctx context.Context, name string) bool {
	for i, c := range p.chapters {
		if c.Name == name {
			select {
			case p.jumps <- i:
				return true
			case <-ctx.Done():
				return false
			}
		}
	}
	return false
}

// place gives the chapter and how long it has been played.
func (p *player) place() (c chapter, played time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chapters[p.now], min(time.Since(p.since), p.chapters[p.now].Length)
}

package plugintest

import (
	"context"
	"net/http"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// Marker is the path of requests that show on which worker their connection is. The plugins must have a flow rule "marker"
// for it as a resource that admits them all, in windows of a second.
const Marker = "/marker"

// patience is how long things may take that take milliseconds on an idle machine.
const patience = time.Minute

// Lane is a client with one connection to a listener, and so one worker.
type Lane struct {
	client *http.Client
	url    string
}

// NewLane gives a lane that is closed at the test's end.
func NewLane(t testing.TB, e *envoytest.Envoy, listener string) *Lane {
	t.Helper()
	l := &Lane{client: envoytest.NewHTTPClient(false), url: e.URL(listener)}
	l.client.Timeout = 0
	t.Cleanup(l.client.CloseIdleConnections)
	return l
}

// Do sends a request, as envoytest.Do does.
func (l *Lane) Do(ctx context.Context, path string, headers ...string) (envoytest.Response, error) {
	return envoytest.Do(ctx, l.client, http.MethodGet, l.url+path, headers...)
}

// Get gives the status of the answer to a request, 0 where the connection broke or a minute was too short.
func (l *Lane) Get(t testing.TB, path string, headers ...string) int {
	t.Helper()
	r, err := l.Do(envoytest.Context(t, patience), path, headers...)
	if err != nil {
		return 0
	}
	return r.Status
}

// Markers are the threads that decided about requests to Marker, the last one last.
func Markers(e *envoytest.Envoy) []string {
	return threads(e, `^\[[^]]*\]\[(\d+)\].* audit rule=marker .* admitted=[1-9]`)
}

// Thread is the number of the thread that decides about the lane's requests; empty where they are not answered by 200.
func (l *Lane) Thread(t testing.TB, e *envoytest.Envoy) (thread string) {
	t.Helper()
	before := len(Markers(e))
	if l.Get(t, Marker) != http.StatusOK {
		return ""
	}
	envoytest.Eventually(t, patience, "the audit has the request to "+Marker, func() bool {
		all := Markers(e)
		if len(all) > before {
			thread = all[before]
		}
		return thread != ""
	})
	return thread
}

// Lanes opens lanes to the listener "http" until each of the workers has that many, and gives them by the numbers of the
// workers' threads. Some may have more.
func Lanes(t testing.TB, e *envoytest.Envoy, workers, each int) map[string][]*Lane {
	t.Helper()
	lanes, complete := map[string][]*Lane{}, 0
	for range 8 * each * workers {
		l := NewLane(t, e, "http")
		thread := l.Thread(t, e)
		if thread == "" {
			t.Fatalf("a request to %s was not let in", Marker)
		}
		if lanes[thread] = append(lanes[thread], l); len(lanes[thread]) == each {
			complete++
		}
		if complete == workers {
			return lanes
		}
	}
	t.Fatalf("connections are spread so unevenly that not each of %d workers has %d: %v", workers, each, lanes)
	return nil
}

package envoytest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Admin is a client of an Envoy's admin interface.
type Admin struct {
	addr   string
	client *http.Client
}

// NewAdmin gives a client of the admin interface at a host:port.
func NewAdmin(addr string) *Admin {
	return &Admin{addr: addr, client: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true}, // leave nothing open that a test would have to close
	}}
}

// Addr gives the admin interface's host:port.
func (a *Admin) Addr() string { return a.addr }

// Get gives the body of an admin page, such as "/config_dump". A status other than 200 is an error, except that /ready
// gives the state, whatever it is.
func (a *Admin) Get(ctx context.Context, path string) (string, error) {
	return a.do(ctx, http.MethodGet, path)
}

// Post does what an admin page that changes something does, such as "/logging?level=debug".
func (a *Admin) Post(ctx context.Context, path string) (string, error) {
	return a.do(ctx, http.MethodPost, path)
}

func (a *Admin) do(ctx context.Context, method, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.addr+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK && path != "/ready" {
		return "", fmt.Errorf("admin %s %s: %s: %s", method, path, resp.Status, body)
	}
	return string(body), nil
}

// Stats gives the counters and gauges whose names match filter, a regular expression; empty for all.
func (a *Admin) Stats(ctx context.Context, filter string) (map[string]float64, error) {
	text, err := a.Get(ctx, "/stats?filter="+url.QueryEscape(filter))
	if err != nil {
		return nil, err
	}
	stats := map[string]float64{}
	for line := range strings.Lines(text) {
		at := strings.LastIndex(line, ": ")
		if at < 0 {
			continue
		}
		// Histograms and text readouts do not parse as numbers.
		if v, err := strconv.ParseFloat(strings.TrimSpace(line[at+2:]), 64); err == nil {
			stats[line[:at]] = v
		}
	}
	return stats, nil
}

// Sample is one line of the Prometheus output.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Prometheus gives the samples of /stats/prometheus.
func (a *Admin) Prometheus(ctx context.Context) ([]Sample, error) {
	text, err := a.Get(ctx, "/stats/prometheus")
	if err != nil {
		return nil, err
	}
	return parsePrometheus(text)
}

// SetLogLevel sets the log level of a component such as "wasm", or of all of them where component is "".
func (a *Admin) SetLogLevel(ctx context.Context, component, level string) error {
	_, err := a.Post(ctx, "/logging?"+url.Values{or(component, "level"): {level}}.Encode())
	return err
}

// Listeners gives the host:port of each listener by its name.
func (a *Admin) Listeners(ctx context.Context) (map[string]string, error) {
	text, err := a.Get(ctx, "/listeners?format=json")
	if err != nil {
		return nil, err
	}
	var reply struct {
		Statuses []struct {
			Name  string `json:"name"`
			Local struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		return nil, fmt.Errorf("admin /listeners: %w", err)
	}
	addrs := make(map[string]string, len(reply.Statuses))
	for _, s := range reply.Statuses {
		addrs[s.Name] = net.JoinHostPort(s.Local.Socket.Address, strconv.Itoa(s.Local.Socket.Port))
	}
	return addrs, nil
}

// Memory gives what Envoy's allocator says, in bytes, by the names of /memory: "allocated", "heap_size" and others. It
// leaves out what Wasm VMs use, which is in RSS.
func (a *Admin) Memory(ctx context.Context) (map[string]int64, error) {
	text, err := a.Get(ctx, "/memory")
	if err != nil {
		return nil, err
	}
	var reply map[string]string
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		return nil, fmt.Errorf("admin /memory: %w", err)
	}
	memory := make(map[string]int64, len(reply))
	for name, value := range reply {
		if memory[name], err = strconv.ParseInt(value, 10, 64); err != nil {
			return nil, fmt.Errorf("admin /memory: %s: %w", name, err)
		}
	}
	return memory, nil
}

// Is tells whether a sample is of a metric and has these labels, names and values in turn.
func (s Sample) Is(name string, labels ...string) bool {
	if s.Name != name {
		return false
	}
	for i := 0; i+1 < len(labels); i += 2 {
		if v, ok := s.Labels[labels[i]]; !ok || v != labels[i+1] {
			return false
		}
	}
	return true
}

// Sum adds up the samples of a metric that have these labels, names and values in turn; 0 if there is none.
func Sum(samples []Sample, name string, labels ...string) (sum float64) {
	for _, s := range samples {
		if s.Is(name, labels...) {
			sum += s.Value
		}
	}
	return sum
}

// parsePrometheus reads the text exposition format as Envoy writes it: no timestamps.
func parsePrometheus(text string) ([]Sample, error) {
	var samples []Sample
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parseSample(line)
		if err != nil {
			return nil, fmt.Errorf("%w: %q", err, line)
		}
		samples = append(samples, s)
	}
	return samples, lines.Err()
}

func parseSample(line string) (Sample, error) {
	nameEnd := strings.IndexAny(line, "{ ")
	if nameEnd < 0 {
		return Sample{}, fmt.Errorf("sample without a value")
	}
	s := Sample{Name: line[:nameEnd], Labels: map[string]string{}}
	rest := line[nameEnd:]
	if rest[0] == '{' {
		var err error
		if rest, err = parseLabels(rest[1:], s.Labels); err != nil {
			return Sample{}, err
		}
	}
	var err error
	s.Value, err = strconv.ParseFloat(strings.TrimSpace(rest), 64)
	return s, err
}

// parseLabels reads name="value" pairs into labels, up to the closing brace, and gives what follows it.
func parseLabels(text string, labels map[string]string) (rest string, err error) {
	for {
		text = strings.TrimLeft(text, ", ")
		if strings.HasPrefix(text, "}") {
			return text[1:], nil
		}
		name, after, ok := strings.Cut(text, "=")
		if !ok {
			return "", fmt.Errorf("label without a value")
		}
		quoted, err := strconv.QuotedPrefix(after)
		if err != nil {
			return "", fmt.Errorf("label %s: %w", name, err)
		}
		if labels[name], err = strconv.Unquote(quoted); err != nil {
			return "", fmt.Errorf("label %s: %w", name, err)
		}
		text = after[len(quoted):]
	}
}

package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/rulestore"
	"sentinel-envoy/shared/config"
)

// Protocol is the release of Java Sentinel whose commands these are; dashboards choose by it how they ask.
const Protocol = "1.8.9"

const (
	beatEvery = 10 * time.Second
	lookEvery = time.Second
	// silent is for how long an admin page may not answer before no more is said to the dashboard of that Envoy.
	silent = 10 * time.Second
)

// Options say which Envoys a dashboard shall see, and as what.
type Options struct {
	App        string
	Dashboards []string // URLs, as http://127.0.0.1:8080
	Admins     []string // host:port of each Envoy's admin page
	// Listen is where the first Envoy's commands are answered, the next one's at the next port.
	Listen string
	// IP is where the dashboard is told to ask; "" is the address that it is reached from, or Listen's where that is one.
	IP string
	// Servers are the URLs of the servers that rules are written to, by Envoy's names of their clusters.
	Servers map[string]string
	// Header goes with each request to them.
	Header http.Header
	// Writers are who may set rules, beside those at the dashboards' addresses.
	Writers []netip.Prefix
	Log     io.Writer
}

// Agent speaks for one Envoy.
type Agent struct {
	o        Options
	admin    *envoytest.Admin
	listener net.Listener
	hostname string
	writers  []netip.Prefix
	told     map[string]string // what has been logged last, by what it is about

	mu      sync.Mutex
	history history
	heard   time.Time // when the admin page has answered last

	setting sync.Mutex // one sets rules at a time
}

// Run speaks for all Envoys until ctx ends, or one of the ports cannot be had.
func Run(ctx context.Context, o Options) error {
	agents, err := listen(o)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, len(agents))
	var all sync.WaitGroup
	for _, a := range agents {
		all.Go(func() { failed <- a.run(ctx) })
	}
	err = <-failed
	stop()
	all.Wait()
	return err
}

// listen opens each Envoy's port.
func listen(o Options) (agents []*Agent, err error) {
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, err
	}
	first, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, err
	}
	writers, err := writersOf(o)
	if err != nil {
		return nil, err
	}
	for i, admin := range o.Admins {
		at := net.JoinHostPort(host, fmt.Sprint(first+i))
		if first == 0 {
			at = o.Listen
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			for _, a := range agents {
				a.listener.Close()
			}
			return nil, err
		}
		agents = append(agents, &Agent{o: o, admin: envoytest.NewAdmin(admin), listener: l, writers: writers, told: map[string]string{}})
	}
	return agents, nil
}

// writersOf are who may set rules: the dashboards, and whom the options name.
func writersOf(o Options) ([]netip.Prefix, error) {
	all := append([]netip.Prefix{}, o.Writers...)
	for _, d := range o.Dashboards {
		u, err := url.Parse(d)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("%q is no URL of a dashboard such as http://127.0.0.1:8080", d)
		}
		ips, err := net.LookupIP(u.Hostname())
		if err != nil {
			return nil, err
		}
		for _, ip := range ips {
			if a, ok := netip.AddrFromSlice(ip); ok {
				all = append(all, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			}
		}
	}
	return all, nil
}

// run answers, looks and beats until ctx ends.
func (a *Agent) run(ctx context.Context) error {
	server := &http.Server{Handler: a, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: maxHead}
	served := make(chan error, 1)
	go func() { served <- server.Serve(a.listener) }()
	a.log("port", "Envoy at %s: commands at %s", a.admin.Addr(), a.listener.Addr())
	var work sync.WaitGroup
	work.Go(func() { a.look(ctx) })
	work.Go(func() { a.beat(ctx) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	server.Close()
	if err == nil {
		work.Wait()
	}
	return err
}

// look reads the admin page at the beginning of each second.
func (a *Agent) look(ctx context.Context) {
	for {
		samples, err := a.admin.Prometheus(ctx)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		a.mu.Lock()
		if err == nil {
			a.history.add(readingOf(samples), now)
			a.heard = now
		}
		a.mu.Unlock()
		if err != nil {
			a.log("admin", "Envoy at %s does not answer: %v", a.admin.Addr(), err)
		} else {
			a.log("admin", "Envoy at %s answers", a.admin.Addr())
		}
		if !sleep(ctx, now.Truncate(lookEvery).Add(lookEvery).Sub(now)) {
			return
		}
	}
}

// sleep reports whether the time has passed and ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// log writes a line unless it is what was written last of a subject.
func (a *Agent) log(subject, format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	if a.told[subject] != line {
		a.told[subject] = line
		fmt.Fprintln(a.o.Log, line)
	}
}

// say writes a line.
func (a *Agent) say(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(a.o.Log, format+"\n", args...)
}

// lives tells whether the admin page has answered lately.
func (a *Agent) lives(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return now.Sub(a.heard) < silent
}

// beat tells the dashboards every ten seconds that the Envoy is there.
func (a *Agent) beat(ctx context.Context) {
	client := &http.Client{Timeout: 5 * time.Second}
	for wait := time.Second; sleep(ctx, wait); { // the first reading comes before the first beat
		if wait = beatEvery; !a.lives(time.Now()) {
			wait = time.Second
			continue
		}
		for _, d := range a.o.Dashboards {
			if err := a.register(ctx, client, d); err != nil && ctx.Err() == nil {
				a.log(d, "dashboard %s does not take it: %v", d, err)
			} else {
				a.log(d, "dashboard %s knows it", d)
			}
		}
	}
}

// register is one heartbeat.
func (a *Agent) register(ctx context.Context, client *http.Client, dashboard string) error {
	host, port, err := a.address(dashboard)
	if err != nil {
		return err
	}
	form := url.Values{
		"app": {a.o.App}, "app_type": {"0"}, "hostname": {a.host(ctx)}, "ip": {host}, "port": {port}, "v": {Protocol},
		"version": {fmt.Sprint(time.Now().UnixMilli())}, "pid": {"0"},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(dashboard, "/")+"/registry/machine",
		strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	var said struct {
		Code *int
		Msg  string
	}
	if resp.StatusCode != http.StatusOK || json.Unmarshal(text, &said) != nil || said.Code == nil || *said.Code != 0 {
		return fmt.Errorf("%s: %.200s", resp.Status, text)
	}
	return nil
}

// address is where a dashboard is told to ask.
func (a *Agent) address(dashboard string) (ip, port string, err error) {
	ip, port, err = net.SplitHostPort(a.listener.Addr().String())
	if err != nil || a.o.IP != "" {
		return a.o.IP, port, err
	}
	if at, err := netip.ParseAddr(ip); err == nil && !at.IsUnspecified() {
		return ip, port, nil
	}
	u, err := url.Parse(dashboard)
	if err != nil {
		return "", "", err
	}
	way, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), "9")) // sends nothing; it finds out which address we have there
	if err != nil {
		return "", "", err
	}
	defer way.Close()
	ip, _, err = net.SplitHostPort(way.LocalAddr().String())
	return ip, port, err
}

// host is Envoy's own name of its node, or this machine's.
func (a *Agent) host(ctx context.Context) string {
	if a.hostname != "" {
		return a.hostname
	}
	name := a.admin.Addr()
	if text, err := a.admin.Get(ctx, "/server_info"); err == nil {
		var info struct{ Node struct{ ID string } }
		if json.Unmarshal([]byte(text), &info) == nil && info.Node.ID != "" {
			name = info.Node.ID
		}
	}
	a.hostname = name[:min(len(name), 256)] // a dashboard takes no more
	return a.hostname
}

// stores gives the document of a source, nil where nobody has said where its server is.
func (a *Agent) stores(s config.DataSource) (*rulestore.Store, error) {
	server, known := a.o.Servers[s.Cluster]
	if !known {
		return nil, nil
	}
	return rulestore.New(s.Origin, server, a.o.Header)
}

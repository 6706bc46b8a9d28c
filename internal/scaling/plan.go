package main

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
)

const (
	// demandFactor is how many times its threshold a cell is offered, and plentyFactor where that is at most plenty a
	// second. What counts is that every bucket gets twice the threshold's rate: the rest is for a machine that hiccups.
	demandFactor = 2.5
	plentyFactor = 6
	plenty       = 300
	// highDivisor makes the highest threshold of what the machine can answer at all.
	highDivisor = 3
	// togetherBelow is how many requests a second cells may demand together to be run at the same time.
	togetherBelow = 2000
	// perWorker is how many connections per worker make a spread load: few enough workers are left without one by the
	// kernel, which picks the worker of each connection by a hash.
	perWorker = 8
	// streams is how many requests are outstanding on the one connection of a load that is not spread.
	streams = 32
	// unlimited is a threshold that no machine reaches.
	unlimited = 1_000_000_000
)

// guard says which listeners of Envoy spend a cell's budget.
type guard struct {
	name      string
	http, tcp bool
}

var guards = []guard{
	{name: "HTTP", http: true},
	{name: "TCP", tcp: true},
	{name: "HTTP + TCP", http: true, tcp: true},
}

func (g guard) listeners() int {
	if g.http && g.tcp {
		return 2
	}
	return 1
}

// cell is one row of the table: one rule with a budget of its own, and the load on it.
type cell struct {
	window      window
	concurrency int // Envoy's worker threads
	guard       guard
	spread      bool // over many connections; otherwise one connection, or with TCP one at a time
	threshold   int  // per second
	// high marks a threshold that follows from what the machine can do. It is offered as much as the machine can answer.
	high bool
}

// rule is the cell's rule id, and the name of its resource.
func (c cell) rule() string {
	load := "one"
	if c.spread {
		load = "spread"
	}
	listeners := ""
	if c.guard.http {
		listeners += "http-"
	}
	if c.guard.tcp {
		listeners += "tcp-"
	}
	return fmt.Sprintf("%s%s-%d", listeners, load, c.threshold)
}

func (c cell) httpListener() string { return c.rule() + "/http" }
func (c cell) tcpListener() string  { return c.rule() + "/tcp" }

// demand is how many requests a second the cell is offered; 0: as many as are answered.
func (c cell) demand() float64 {
	if c.high {
		return 0
	}
	if d := plentyFactor * float64(c.threshold); d <= plenty {
		if c.window.span > 2 {
			return plenty // what comes back has to wait for the next request, and that is lost
		}
		return d
	}
	return demandFactor * float64(c.threshold)
}

// loads are what the clients do to listeners at those addresses.
func (c cell) loads(addr func(listener string) string, d time.Duration) ([]load.Options, error) {
	var loads []load.Options
	add := func(listener string, proto load.Proto) error {
		_, portText, err := net.SplitHostPort(addr(listener))
		if err != nil {
			return fmt.Errorf("listener %s: %w", listener, err)
		}
		o := load.Options{Proto: proto, QPS: c.demand() / float64(c.guard.listeners()), Duration: d, Connections: 1}
		if o.Port, err = strconv.Atoi(portText); err != nil {
			return err
		}
		switch {
		case c.spread:
			o.Connections = perWorker * c.concurrency
		case proto == load.HTTP1:
			// Envoy drops an HTTP/1.1 connection on which more than two local replies wait.
			o.Proto, o.Pipeline = load.H2C, streams
		}
		loads = append(loads, o)
		return nil
	}
	if c.guard.http {
		if err := add(c.httpListener(), load.HTTP1); err != nil {
			return nil, err
		}
	}
	if c.guard.tcp {
		if err := add(c.tcpListener(), load.TCP); err != nil {
			return nil, err
		}
	}
	return loads, nil
}

// listeners are the cell's listeners in Envoy. What passes is answered by Envoy itself on HTTP, and by upstream on TCP.
func (c cell) listeners(wasm, upstream string, httpPort, tcpPort int) ([]envoytest.Listener, error) {
	config, err := json.Marshal(map[string]any{
		"resource_name": c.rule(),
		"flowRules": []any{map[string]any{
			"id": c.rule(), "resource": c.rule(), "threshold": c.threshold, "statIntervalInMs": intervalMs,
			"window": c.window.name,
		}},
	})
	if err != nil {
		return nil, err
	}
	filter := func(root string) []envoytest.Wasm {
		return []envoytest.Wasm{{File: wasm, RootID: root, Config: string(config)}}
	}
	var list []envoytest.Listener
	if c.guard.http {
		list = append(list, envoytest.HTTP{
			Name: c.httpListener(), Port: httpPort, Wasm: filter("sentinel_http"),
			Routes: []envoytest.Route{{DirectStatus: 200}},
		})
	}
	if c.guard.tcp {
		list = append(list, envoytest.TCP{
			Name: c.tcpListener(), Port: tcpPort, Wasm: filter("sentinel_tcp"), Upstream: upstream,
		})
	}
	return list, nil
}

// kinds are all cells at a concurrency that differ in what is guarded and how the load lies.
func kinds(w window, concurrency int) []cell {
	var cells []cell
	for _, g := range guards {
		cells = append(cells, cell{window: w, concurrency: concurrency, guard: g, spread: true}, cell{window: w, concurrency: concurrency, guard: g})
	}
	return cells
}

// plan gives the cells of one Envoy. highest has the highest threshold of each of the kinds; it is empty where none is
// asked for.
func plan(w window, concurrency int, thresholds []int, highest map[cell]int, short bool) []cell {
	var cells []cell
	for _, threshold := range thresholds {
		for _, c := range kinds(w, concurrency) {
			c.threshold = threshold
			if short && !c.spread && c.guard.listeners() == 1 && c.demand() >= togetherBelow {
				continue // one connection is tried there on both listeners only, for the time it takes
			}
			cells = append(cells, c)
		}
	}
	for _, c := range kinds(w, concurrency) {
		if threshold, ok := highest[c]; ok {
			c.threshold, c.high = threshold, true
			cells = append(cells, c)
		}
	}
	return cells
}

// batches groups cells to be run at the same time: those that demand little.
func batches(cells []cell) [][]cell {
	var out [][]cell
	var together float64
	for _, c := range cells {
		demand := c.demand()
		if len(out) > 0 && demand > 0 && together > 0 && together+demand <= togetherBelow {
			out[len(out)-1] = append(slices.Clip(out[len(out)-1]), c)
			together += demand
			continue
		}
		out = append(out, []cell{c})
		together = demand
	}
	return out
}

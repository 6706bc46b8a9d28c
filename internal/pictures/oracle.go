package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	sentinel "github.com/alibaba/sentinel-golang/api"
	"github.com/alibaba/sentinel-golang/core/base"
	"github.com/alibaba/sentinel-golang/core/circuitbreaker"
	sentinelconfig "github.com/alibaba/sentinel-golang/core/config"
	sentinelflow "github.com/alibaba/sentinel-golang/core/flow"
	"github.com/alibaba/sentinel-golang/logging"
	"github.com/alibaba/sentinel-golang/util"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/outcome"
)

// duel is one resource under one worker of ours and under sentinel-golang, on one virtual clock.
type duel struct {
	process *memhost.Process
	vm      *engine.VM
	filter  *engine.Filter
	began   int64 // ns
	slept   time.Duration
}

const (
	resource = "/pictured"
	second   = int64(time.Second)
	// lull is how long nothing happens before a picture begins: longer than any window of sentinel-golang's.
	lull = 1000 * second
)

// newDuel gives a duel that begins lull after the one before, with our rules; sentinel-golang's are to be loaded after it.
func newDuel(rules string) (*duel, error) {
	if err := initSentinel(); err != nil {
		return nil, err
	}
	parsed, err := config.Parse([]byte(rules), config.KindHTTP)
	if err != nil {
		return nil, err
	}
	duels++
	d := &duel{process: memhost.NewProcess(duels * lull), began: duels * lull}
	d.vm = engine.New(d.process.Worker(nil), "pictures")
	d.filter = d.vm.NewFilter("sentinel_http", parsed, nil)
	util.SetClock(d)
	return d, nil
}

// duels counts those begun: sentinel-golang remembers what passed.
var duels int64

// initSentinel makes sentinel-golang start nothing of its own.
var initSentinel = sync.OnceValue(func() error {
	c := sentinelconfig.NewDefaultConfig()
	c.Sentinel.Log.Logger = quiet{}
	c.Sentinel.Log.Metric.FlushIntervalSec = 0
	c.Sentinel.Stat.System = sentinelconfig.SystemStatConfig{}
	c.Sentinel.UseCacheTime = false
	return sentinel.InitWithConfig(c)
})

// quiet is a log that nobody reads.
type quiet struct{ logging.Logger }

func (quiet) DebugEnabled() bool          { return false }
func (quiet) InfoEnabled() bool           { return false }
func (quiet) WarnEnabled() bool           { return false }
func (quiet) ErrorEnabled() bool          { return false }
func (quiet) Debug(string, ...any)        {}
func (quiet) Info(string, ...any)         {}
func (quiet) Warn(string, ...any)         {}
func (quiet) Error(error, string, ...any) {}

// Now implements util.Clock, as do the next three.
func (d *duel) Now() time.Time { return time.Unix(0, d.process.Now()) }

// Sleep notes how long an entry is to wait; the picture goes on with the next one.
func (d *duel) Sleep(t time.Duration) { d.slept = t }

// CurrentTimeMillis is Now in ms.
func (d *duel) CurrentTimeMillis() uint64 { return uint64(d.process.Now() / int64(time.Millisecond)) }

// CurrentTimeNano is Now in ns.
func (d *duel) CurrentTimeNano() uint64 { return uint64(d.process.Now()) }

// seconds is how long the duel has lasted.
func (d *duel) seconds() float64 { return float64(d.process.Now()-d.began) / float64(second) }

// advance lets time pass, with what our worker does meanwhile.
func (d *duel) advance(by time.Duration) {
	d.process.Advance(int64(by))
	d.vm.Tick(d.process.Now())
}

// answer is what one side says of an entry.
type answer struct {
	in   bool
	wait time.Duration // before it is let in
}

// visit is one entry on both sides.
type visit struct {
	ours, sentinels answer
	entry           engine.Entry
	theirs          *base.SentinelEntry
}

// enter asks both sides for one entry.
func (d *duel) enter() *visit {
	v := &visit{}
	now := d.process.Now()
	if v.ours.in = d.filter.Enter(resource, now, &v.entry) == nil; v.ours.in {
		if until, waits := v.entry.Waiting(); waits {
			v.ours.wait = time.Duration(until - now)
		}
	}
	util.SetClock(d) // our aggregator uses sentinel-golang's windows, with a clock of its own
	d.slept = 0
	entry, blocked := sentinel.Entry(resource)
	v.theirs, v.sentinels = entry, answer{blocked == nil, d.slept}
	return v
}

// exit ends an entry of those that are in; one of ours that waits is left waiting.
func (d *duel) exit(v *visit, failed bool) {
	if v.ours.in && v.ours.wait == 0 {
		v.entry.Exit(d.process.Now(), outcome.End{Outcome: ends[failed]})
	}
	util.SetClock(d)
	if v.sentinels.in && failed {
		v.theirs.Exit(base.WithError(errors.New("failed")))
	} else if v.sentinels.in {
		v.theirs.Exit()
	}
}

// ends are how an entry ends, by whether it failed.
var ends = map[bool]outcome.Outcome{false: outcome.Well, true: outcome.Badly}

// loadFlow puts sentinel-golang's rule in force.
func loadFlow(r sentinelflow.Rule) error {
	r.Resource = resource
	_, err := sentinelflow.LoadRules([]*sentinelflow.Rule{&r})
	return err
}

// warmUp is what both admit in each of n seconds, of offered entries a second, after a rest.
func warmUp(n, offered int) (ours, sentinels []float64, err error) {
	d, err := newDuel(fmt.Sprintf(`{"flowRules": [{"id": "w", "resource": %q, "threshold": %d, "tokenCalculateStrategy": "WarmUp",
		"warmUpPeriodSec": %d, "warmUpColdFactor": 3}]}`, resource, warmThreshold, warmSeconds))
	if err == nil {
		err = loadFlow(sentinelflow.Rule{
			ID: "w", Threshold: warmThreshold, StatIntervalInMs: 1000, TokenCalculateStrategy: sentinelflow.WarmUp,
			WarmUpPeriodSec: warmSeconds, WarmUpColdFactor: 3,
		})
	}
	if err != nil {
		return nil, nil, err
	}
	ours, sentinels = make([]float64, n), make([]float64, n)
	for i := range n * offered {
		v := d.enter()
		if v.ours.in {
			ours[i/offered]++
		}
		if v.sentinels.in {
			sentinels[i/offered]++
		}
		d.exit(v, false)
		d.advance(time.Second / time.Duration(offered))
	}
	return ours, sentinels, nil
}

const (
	warmThreshold = 100
	warmSeconds   = 10
	// paceThreshold is what throttling lets in per second, and paceWait how long an entry may wait for it.
	paceThreshold = 10
	paceWait      = 500 * time.Millisecond
)

// arrival is an entry of a burst: when it came, and when each side let it in, in s; -1 for never.
type arrival struct{ came, ours, sentinels float64 }

// throttle is what becomes of n entries that come at even intervals.
func throttle(n int, every time.Duration) ([]arrival, error) {
	d, err := newDuel(fmt.Sprintf(`{"flowRules": [{"id": "t", "resource": %q, "threshold": %d, "controlBehavior": "Throttling",
		"maxQueueingTimeMs": %d}]}`, resource, paceThreshold, paceWait.Milliseconds()))
	if err == nil {
		err = loadFlow(sentinelflow.Rule{
			ID: "t", Threshold: paceThreshold, StatIntervalInMs: 1000, ControlBehavior: sentinelflow.Throttling,
			MaxQueueingTimeMs: uint32(paceWait.Milliseconds()),
		})
	}
	if err != nil {
		return nil, err
	}
	arrivals := make([]arrival, n)
	for i := range arrivals {
		came := d.seconds()
		arrivals[i] = arrival{came: came, ours: -1, sentinels: -1}
		v := d.enter()
		if v.ours.in {
			arrivals[i].ours = came + v.ours.wait.Seconds()
		}
		if v.sentinels.in {
			arrivals[i].sentinels = came + v.sentinels.wait.Seconds()
		}
		d.exit(v, false)
		d.advance(every)
	}
	return arrivals, nil
}

// phase is the state of a breaker from a time on, in s.
type phase struct {
	at    float64
	state circuitbreaker.State
}

// listener notes sentinel-golang's states. Its breaker is closed at first.
type listener struct {
	d      *duel
	phases []phase
}

func (l *listener) note(s circuitbreaker.State) { l.phases = append(l.phases, phase{l.d.seconds(), s}) }

// OnTransformToClosed implements circuitbreaker.StateChangeListener, as do the next two.
func (l *listener) OnTransformToClosed(circuitbreaker.State, circuitbreaker.Rule) {
	l.note(circuitbreaker.Closed)
}

// OnTransformToOpen is such a change.
func (l *listener) OnTransformToOpen(circuitbreaker.State, circuitbreaker.Rule, any) {
	l.note(circuitbreaker.Open)
}

// OnTransformToHalfOpen is such a change.
func (l *listener) OnTransformToHalfOpen(circuitbreaker.State, circuitbreaker.Rule) {
	l.note(circuitbreaker.HalfOpen)
}

// loadBreaker puts sentinel-golang's rule in force, and has its states noted until the returned function is called.
func loadBreaker(d *duel) (l *listener, unload func() error, err error) {
	l = &listener{d: d, phases: []phase{{0, circuitbreaker.Closed}}}
	circuitbreaker.RegisterStateChangeListeners(l)
	unload = func() error {
		circuitbreaker.ClearStateChangeListeners()
		return circuitbreaker.ClearRules()
	}
	if err := sentinelflow.ClearRules(); err != nil {
		return nil, nil, err
	}
	_, err = circuitbreaker.LoadRules([]*circuitbreaker.Rule{{
		Id: "b", Resource: resource, Strategy: circuitbreaker.ErrorRatio, Threshold: 0.5, MinRequestAmount: 5,
		StatIntervalMs: 1000, RetryTimeoutMs: 2000,
	}})
	return l, unload, err
}

const (
	// breakerStep is how often a request comes in breakerPhases, and each takes breakerTakes of them.
	breakerStep  = 20 * time.Millisecond
	breakerTakes = 20
)

// breakerPhases is through which states a breaker goes in so many seconds, while the service fails in some of them.
func breakerPhases(lasts, failsFrom, failsTo float64) (ours, sentinels []phase, err error) {
	d, err := newDuel(fmt.Sprintf(`{"circuitBreakerRules": [{"id": "b", "resource": %q, "strategy": "ErrorRatio", "threshold": 0.5,
		"minRequestAmount": 5, "statIntervalMs": 1000, "retryTimeoutMs": 2000}]}`, resource))
	if err != nil {
		return nil, nil, err
	}
	l, unload, err := loadBreaker(d)
	if err != nil {
		return nil, nil, err
	}
	var visits []*visit
	ours = []phase{{0, circuitbreaker.Closed}}
	for d.seconds() < lasts {
		if visits = append(visits, d.enter()); len(visits) > breakerTakes {
			d.exit(visits[0], d.seconds() >= failsFrom && d.seconds() < failsTo)
			visits = visits[1:]
		}
		d.advance(breakerStep)
		state, found := d.process.Metric("sentinel_breaker_state;resource=" + resource + ";rule=b")
		if found && ours[len(ours)-1].state != states[state] {
			ours = append(ours, phase{d.seconds(), states[state]})
		}
	}
	return ours, l.phases, unload()
}

// states are those of sentinel_breaker_state.
var states = []circuitbreaker.State{circuitbreaker.Closed, circuitbreaker.HalfOpen, circuitbreaker.Open}

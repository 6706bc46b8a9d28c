package engine

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/publication"
	"sentinel-envoy/shared/record"
	protocol "sentinel-envoy/shared/source"
	"sentinel-envoy/shared/worker"
)

const (
	// beatEvery is how often the owner of a source says that it still is, in nanoseconds.
	beatEvery = 1e9
	// spareAnswer is how much later than its time-out an answer may come, in nanoseconds: it then does not come at all, because
	// the context is gone that has asked.
	spareAnswer = 1e9
)

// sources are the data sources of one worker's filters. Of all workers one, the source's owner, asks; see publication.Board.
type sources struct {
	env   *family.Env
	board *publication.Board
	all   []*source
}

// source is a data source.
type source struct {
	origin config.Origin
	id     record.ID
	title  string
	refs   int
	// asking is what this worker has asked and has no answer to, deadline when it will have none, in nanoseconds.
	asking   *Ask
	deadline int64
	// said is the last error that was written to the log, "" once there was a good answer.
	said string

	updates, errors metrics.Counter
}

func newSources(env *family.Env) *sources {
	return &sources{env: env, board: publication.NewBoard(env.Table, env.Host)}
}

// acquire returns the source at an origin, until each who has acquired it has released it.
func (ss *sources) acquire(o *config.Origin) *source {
	for _, s := range ss.all {
		if s.origin == *o {
			s.refs++
			return s
		}
	}
	title := o.Title()
	s := &source{origin: *o, id: idOf(o), title: title, refs: 1}
	s.updates.Name = "sentinel_datasource_updates" + metrics.Resource(title)
	s.errors.Name = "sentinel_datasource_errors" + metrics.Resource(title)
	ss.all = append(ss.all, s)
	return s
}

// release ends a use of each source. One that this worker does not use any more is others' to ask.
func (ss *sources) release(list []*source, now int64) {
	for _, s := range list {
		if s.refs--; s.refs > 0 {
			continue
		}
		ss.all = slices.DeleteFunc(ss.all, func(other *source) bool { return other == s })
		if me, held := ss.env.Worker.Identity(); held && ss.board.Owns(s.id, me) {
			_, err := ss.change(s, now, func(e *publication.Entry, _ int64) { e.Owner = worker.Identity{} })
			ss.env.Check("leaving a datasource", err)
		}
	}
}

// Ask is a question to a source's server.
type Ask struct {
	Origin *config.Origin
	protocol.Request
	// TimeoutMs is how long the answer may take, in milliseconds.
	TimeoutMs uint32
	source    *source
	mark      string
	at        int64
}

// AskSources calls ask with each question that is this worker's to put now, in nanoseconds. Each answer goes to AskAnswered.
func (vm *VM) AskSources(now int64, ask func(a *Ask) error) {
	for _, f := range vm.filters {
		if f.live.fresh {
			f.live.fresh = false
			vm.env.Check("asking a datasource anew", f.askRefused(now))
		}
	}
	for _, s := range vm.sources.all {
		if !slices.ContainsFunc(vm.filters, func(f *Filter) bool { return f.usesSource(s) }) {
			continue // nobody here could tell whether its rules are right
		}
		a, err := vm.sources.due(s, now)
		vm.env.Check("asking whose turn it is to ask a datasource", err)
		if a == nil {
			continue
		}
		if err := ask(a); err != nil {
			vm.AskAnswered(a, protocol.Response{}, err, now)
		}
	}
}

// askRefused lets those of the filter's sources be asked anew whose rules were refused.
func (f *Filter) askRefused(now int64) (err error) {
	for _, s := range f.live.sources {
		if e := f.vm.sources.board.Entry(s.id); e != nil && e.Refused != 0 {
			err = errors.Join(err, f.vm.sources.board.AskAnew(s.id, now))
		}
	}
	return err
}

// tick brings what is known of the sources up to date.
func (ss *sources) tick(now int64) {
	if len(ss.all) > 0 {
		ss.env.Check("looking for new rules", ss.board.Tick(now))
	}
}

// due is what to ask a source now, if it is this worker that asks it and it is time.
func (ss *sources) due(s *source, now int64) (*Ask, error) {
	me, held := ss.env.Worker.Identity()
	if !held {
		return nil, nil
	}
	e := ss.board.Entry(s.id)
	if !ss.board.Owns(s.id, me) {
		if e != nil && !e.Free(now) {
			return nil, nil
		}
		if mine, err := ss.board.Claim(s.id, me, now); !mine || err != nil {
			return nil, err
		}
		e = ss.board.Entry(s.id)
	}
	if s.asking != nil && now > s.deadline {
		s.asking = nil
		return nil, ss.failed(s, errors.New("no answer"), now)
	}
	if now-e.Beat >= beatEvery {
		if mine, err := ss.board.Change(s.id, me, now, func(*publication.Entry, int64) {}); !mine || err != nil {
			return nil, err
		}
		e = ss.board.Entry(s.id)
	}
	if _, coming := e.Coming(now); coming || s.asking != nil || now < e.Next {
		return nil, nil
	}
	return ss.ask(s, e.Mark, now), nil
}

func (ss *sources) ask(s *source, mark string, now int64) *Ask {
	a := &Ask{Origin: &s.origin, Request: protocol.Ask(&s.origin, mark), source: s, mark: mark, at: now}
	a.TimeoutMs = s.origin.TimeoutMs + a.PatienceMs
	s.asking, s.deadline = a, now+int64(a.TimeoutMs)*1e6+spareAnswer
	return a
}

// AskAnswered says what a server has answered, or why it has not.
func (vm *VM) AskAnswered(a *Ask, r protocol.Response, failed error, now int64) {
	s, ss := a.source, vm.sources
	if s.asking != a || s.refs == 0 {
		return // given up
	}
	s.asking = nil
	var answer protocol.Answer
	if failed == nil {
		answer, failed = protocol.Read(&s.origin, a.mark, &r)
	}
	if failed != nil {
		vm.env.Check("noting an error of a datasource", ss.failed(s, failed, now))
		return
	}
	vm.env.Check("taking rules from a datasource", vm.take(a, answer, now))
}

// failed counts an answer that says nothing. It logs an error that is another than before, and else the 8th, 16th, 32nd … on
// end.
func (ss *sources) failed(s *source, why error, now int64) error {
	s.errors.N++
	failures := 0
	mine, err := ss.change(s, now, func(e *publication.Entry, now int64) {
		e.Failures++
		failures = e.Failures
		e.Next = e.After(now, s.interval())
	})
	if mine && isNews(why, s.said, failures) {
		s.said = why.Error()
		ss.env.Host.Log(host.Warn, "datasource "+s.title+": error "+strconv.Itoa(failures)+" on end: "+why.Error()+
			"; "+ss.instead(s, now))
	}
	return err
}

// isNews is whether the log is to have an error, so many of which there were on end: it is another than was said, or the 8th, 16th,
// 32nd … of them.
func isNews(why error, said string, failures int) bool {
	return why.Error() != said || failures >= 8 && failures&(failures-1) == 0
}

// instead says by what the filters decide where there is nothing new.
func (ss *sources) instead(s *source, now int64) string {
	if e := ss.board.Entry(s.id); e != nil && e.InForce(now).At != 0 {
		return "the last rules stay in force"
	}
	return "the filter has its own rules only"
}

// change changes what all know of a source that is this worker's.
func (ss *sources) change(s *source, now int64, f func(e *publication.Entry, now int64)) (mine bool, err error) {
	me, held := ss.env.Worker.Identity()
	if !held {
		return false, nil
	}
	return ss.board.Change(s.id, me, now, f)
}

func (s *source) interval() int64 { return int64(s.origin.IntervalMs) * 1e6 }

// take does with an answer what it says.
func (vm *VM) take(a *Ask, answer protocol.Answer, now int64) error {
	s, ss := a.source, vm.sources
	e := ss.board.Entry(s.id)
	hash := uint64(0)
	if answer.News == protocol.Text {
		hash = publication.Hash(answer.Text)
	}
	switch {
	case e == nil:
		return nil // lost; the next tick begins anew
	case answer.News == protocol.Again:
		return ss.note(a, answer, now, func(e *publication.Entry, now int64) { e.Next = now })
	case answer.News == protocol.Unchanged:
		return ss.note(a, answer, now, func(e *publication.Entry, now int64) { e.Answered(now) })
	case hash == e.Refused:
		return ss.note(a, answer, now, func(*publication.Entry, int64) {})
	case hash == e.InForce(now).Hash && vm.has(s, e.InForce(now), now):
		return ss.note(a, answer, now, func(e *publication.Entry, now int64) {
			e.Refused = 0
			e.Answered(now)
		})
	}
	if err := vm.check(s, answer.Text, now); err != nil {
		return vm.refuse(a, answer, hash, err, now)
	}
	return vm.publish(a, answer, now)
}

// has is whether a version's text can be read.
func (vm *VM) has(s *source, v publication.Version, now int64) bool {
	_, err := vm.sources.board.Text(s.id, v, now)
	return err == nil
}

// note writes down an answer that brings no new rules.
func (ss *sources) note(a *Ask, answer protocol.Answer, now int64, f func(e *publication.Entry, now int64)) error {
	recovered := 0
	mine, err := ss.change(a.source, now, func(e *publication.Entry, now int64) {
		recovered = e.Failures
		e.Failures, e.Mark = 0, answer.Mark
		e.Next = e.After(a.at, a.source.interval())
		f(e, now)
	})
	a.source.said = ""
	if mine && recovered > 0 && answer.News != protocol.Again {
		ss.env.Host.Log(host.Info, "datasource "+a.source.title+": answers again, after "+strconv.Itoa(recovered)+" errors")
	}
	return err
}

// check is what is wrong with a text for any filter here that uses its source. What is odd for all of them is written to the
// log: a rule for HTTP is nothing to a filter of TCP that has the same source.
func (vm *VM) check(s *source, text []byte, now int64) error {
	odd, filters := map[string]int{}, 0
	var warnings []config.Warning
	for _, f := range vm.filters {
		if !f.usesSource(s) {
			continue
		}
		cfg, err := f.check(s, text, now)
		if err != nil {
			return err
		}
		filters++
		warnings = cfg.Warnings
		for _, w := range warnings {
			odd[w.Path]++
		}
	}
	vm.warn("datasource "+s.title, slices.DeleteFunc(warnings, func(w config.Warning) bool {
		return odd[w.Path] < filters || !strings.HasPrefix(w.Path, "datasource[")
	}))
	return nil
}

// refuse keeps the last good rules, and says once why.
func (vm *VM) refuse(a *Ask, answer protocol.Answer, hash uint64, mistakes error, now int64) error {
	s, ss := a.source, vm.sources
	s.errors.N++
	err := ss.note(a, answer, now, func(e *publication.Entry, _ int64) { e.Refused = hash })
	ss.env.Host.Log(host.Error, "datasource "+s.title+": refused; "+ss.instead(s, now)+": "+mistakes.Error())
	return err
}

// publish hands a text to all workers.
func (vm *VM) publish(a *Ask, answer protocol.Answer, now int64) error {
	s, ss := a.source, vm.sources
	me, held := ss.env.Worker.Identity()
	if !held {
		return nil
	}
	v, err := ss.board.Publish(s.id, me, answer.Text, answer.Mark, now)
	if err != nil || v.At == 0 {
		_, again := ss.change(s, now, func(e *publication.Entry, now int64) { e.Mark, e.Next = "", now+s.interval() })
		return errors.Join(err, again)
	}
	s.updates.N++
	ss.env.Host.Log(host.Info, "datasource "+s.title+": new rules, version "+strconv.FormatUint(v.Hash&0xffffffff, 10)+", "+
		strconv.Itoa(v.Size)+" bytes, hold in "+strconv.FormatInt((v.At-now)/1e6, 10)+" ms for all workers")
	_, err = ss.change(s, now, func(e *publication.Entry, now int64) {
		e.Failures = 0
		e.Next = e.After(a.at, s.interval())
		e.Answered(now)
	})
	return err
}

// export shows what is known of the sources; of those that this worker does not own only that there were no errors.
func (ss *sources) export(now int64) {
	m := ss.env.Metrics
	me, held := ss.env.Worker.Identity()
	for _, s := range ss.all {
		for _, c := range [...]*metrics.Counter{&s.updates, &s.errors} {
			m.Define(c, now)
			m.Export(c, now)
		}
		if held && ss.board.Owns(s.id, me) {
			e := ss.board.Entry(s.id)
			m.Gauge("sentinel_datasource_age_seconds"+metrics.Resource(s.title), uint64(max(now-max(e.Good, e.Since), 0)/1e9), now)
			m.Gauge("sentinel_datasource_version"+metrics.Resource(s.title), e.InForce(now).Hash&0xffffffff, now)
		}
	}
}

// period is how often the VM must tick at rest for its sources, in milliseconds: only who asks them has something to do.
func (ss *sources) period(most uint32) uint32 {
	me, _ := ss.env.Worker.Identity()
	for _, s := range ss.all {
		if ss.board.Owns(s.id, me) {
			most = max(min(most, s.origin.IntervalMs/2), TickMs)
		}
	}
	return most
}

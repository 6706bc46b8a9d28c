// Package explain says what the plugin does with a request: by the plugin's own code, without an Envoy.
package explain

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"sentinel-envoy/shared/answer"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/request/requesttest"
	"sentinel-envoy/shared/resource"
	"sentinel-envoy/shared/rule"
)

// Request is what a client sends.
type Request struct {
	Method  string
	URL     *url.URL
	Headers []string // "name: value"
	Address string   // the client's, with a port or without; empty is unknown
	// Properties are Envoy's attributes, "xds.route_name=payments".
	Properties []string
}

// Answer is what the plugin does with it.
type Answer struct {
	Resource string `json:"resource"` // empty: no rule but the system's, and no count
	// Resources are all that the request is, in the order in which their rules are asked, where it is more than one.
	Resources []string `json:"resources,omitempty"`
	// Unlimited is whether an entry takes it out of all limits.
	Unlimited bool   `json:"unlimited,omitempty"`
	Mode      string `json:"mode"`
	Rules     []Rule `json:"rules"` // in the order in which they are asked
}

// Rule is a rule that is asked about the request.
type Rule struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	Says string `json:"says"` // the rule in short
	// Resource is whose rule it is, where the request is several.
	Resource string `json:"resource,omitempty"`
	// Item is which of a hotspot rule's items the request's value is.
	Item string `json:"item,omitempty"`
	// Skipped is why it is not asked about this request, though it is for the resource.
	Skipped string `json:"skipped,omitempty"`
	// Refusal is what the client would be told, and After how many entries at once; empty where that could not be brought
	// about.
	Refusal string `json:"refusal,omitempty"`
	After   int    `json:"after,omitempty"`
	// Status, ContentType and Body are the answer's then, to what is no gRPC; Body is empty where it is Refusal.
	Status      int    `json:"status,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Body        string `json:"body,omitempty"`
}

// Explain looks at a request through the configuration of an HTTP filter and, if any, the VM's.
func Explain(own, shared *config.Config, req *Request) (*Answer, error) {
	client := req.client()
	f, _ := filterOf(own, shared, client)
	resolver, err := resource.NewHTTP(own, f.Resources(), f.Stream)
	if err != nil {
		return nil, err
	}
	f.Stream.Begin()
	taken := resolver.Resolve()
	a := &Answer{Resource: taken.Name, Unlimited: taken.Exempt, Mode: own.Mode.String(), Rules: []Rule{}}
	if a.Unlimited {
		return a, nil
	}
	if len(taken.Before) > 0 {
		a.Resources = append(slices.Clone(taken.Before), taken.Name)
	}
	for i, name := range append(slices.Clone(taken.Before), taken.Name) {
		for _, r := range rulesOf(own, shared, name) {
			if i > 0 && r.For().Resource == "" {
				continue // is for all: it is asked once
			}
			rule := look(own, r, name, client)
			if len(a.Resources) > 0 {
				rule.Resource = name
			}
			a.Rules = append(a.Rules, rule)
		}
	}
	return a, nil
}

// filterOf is a filter in a process of one worker, asked about the client.
func filterOf(own, shared *config.Config, client *requesttest.Client) (*engine.Filter, *process) {
	p := &process{Process: memhost.NewProcess(int64(1000 * time.Second))}
	p.vm = engine.New(p.Worker(nil), "explain")
	f := p.vm.NewFilter("sentinel_http", own, shared)
	f.Stream.Of(client)
	return f, p
}

type process struct {
	*memhost.Process
	vm *engine.VM
}

// client is the request as Envoy shows it to the plugin.
func (r *Request) client() *requesttest.Client {
	c := &requesttest.Client{
		Headers:    map[string]string{":method": r.Method, ":path": r.URL.RequestURI(), ":authority": r.URL.Host},
		More:       map[string][]string{},
		Properties: map[string]string{},
	}
	if r.Address != "" {
		c.Properties["source.address"] = r.Address
	}
	for _, line := range r.Properties {
		name, value, _ := strings.Cut(line, "=")
		c.Properties[name] = value
	}
	for _, line := range r.Headers {
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if name == "host" {
			name = ":authority"
		}
		if _, again := c.Headers[name]; again && name != ":authority" {
			c.More[name] = append(c.More[name], value)
			continue
		}
		c.Headers[name] = value
	}
	return c
}

// rulesOf are the rules that are for a resource, in their order. The filter's own hold before the VM's.
func rulesOf(own, shared *config.Config, name string) (some []rule.Rule) {
	all := slices.Clone(own.Rules)
	if shared != nil {
		for _, r := range shared.Rules {
			if !slices.ContainsFunc(own.Rules, func(o rule.Rule) bool { return o.For().ID == r.For().ID }) {
				all = append(all, r)
			}
		}
	}
	for _, r := range all {
		to := r.For()
		isFor := to.Resource == name
		if to.Regex {
			isFor = to.Pattern.MatchString(name)
		}
		if name != "" && (isFor || to.Resource == "") {
			some = append(some, r)
		}
	}
	slices.SortStableFunc(some, func(a, b rule.Rule) int { return a.Family().Order - b.Family().Order })
	return some
}

// look says what one rule does.
func look(own *config.Config, r rule.Rule, name string, client *requesttest.Client) Rule {
	out := Rule{Kind: r.Family().Name, ID: r.For().ID, Says: describe(r) + tried(r.For().Trial)}
	defer func(t *rule.Trial) { r.For().Trial = t }(r.For().Trial)
	r.For().Trial = nil // what it would refuse is seen where it does
	alone := *own
	alone.Rules, alone.Warnings, alone.Mode = []rule.Rule{r}, nil, config.Enforce
	f, p := filterOf(&alone, nil, client)
	if only := r.For().Only; only != nil && !family.NewOrigins(only, f.Stream).Some() {
		out.Skipped = "the request is not of limitApp " + r.For().LimitApp
		return out
	}
	if h, ok := r.(*rule.Hotspot); ok {
		out.Item = itemOf(h, f.Stream)
	}
	b, after := p.refuse(f, r, name)
	if b != nil {
		out.After = after
		p.answer(&out, own, f, b, client)
	}
	return out
}

// answer says what the client is told.
func (p *process) answer(out *Rule, own *config.Config, f *engine.Filter, b *engine.Block, client *requesttest.Client) {
	text := f.Explain(b, p.Now()).AppendText(nil)
	out.Refusal = strings.TrimSuffix(string(text), "\n")
	block := answer.Merge(own.Block.Block, b.OfResource, b.ByRule)
	out.Status, out.ContentType = block.StatusFor(b.Reason), cmp.Or(block.ContentType(), "text/plain")
	switch {
	case block.Problem == answer.Yes:
		out.ContentType = answer.ProblemType
		out.Body = string(answer.AppendProblem(nil, out.Status, b.Reason, b.Rule, text))
	case block.Body != "":
		out.Body = string(answer.NewText(block.Body, block.ContentType()).Append(nil, &answer.Values{
			Rule: b.Rule, Kind: b.Reason, Resource: b.Resource, RetryAfter: b.RetryAfter(),
			RequestID: client.Headers["x-request-id"],
		}))
	}
}

// itemOf is which of a rule's items the value is of the stream that is asked about, "" where it is none.
func itemOf(h *rule.Hotspot, s *request.Stream) string {
	key := s.Key(request.ParamsOf(h))
	if there, _ := key.Ask(); !there {
		return ""
	}
	value := key.Values()[0]
	if tiers := request.TiersOf(h); tiers != nil {
		tier := tiers.Find(value)
		switch {
		case tier == nil:
			return ""
		case tier.Kind == rule.NoPattern:
			return tier.Text
		}
		return tier.Kind.String() + " " + tier.Text
	}
	for _, item := range h.SpecificItems {
		if item.ValStr == value {
			return value
		}
	}
	return ""
}

// maxTries bounds the entries that are tried to see a refusal.
const maxTries = 200_000

// refuse brings about a refusal of a rule's, at one instant; of a breaker by failures, and by slow ones.
func (p *process) refuse(f *engine.Filter, r rule.Rule, name string) (b *engine.Block, after int) {
	p.vm.Tick(p.Now())
	if c, ok := r.(*rule.CircuitBreaker); ok {
		return p.openBreaker(f, c, name)
	}
	// What waits for its turn holds a place in a queue, as it does in Envoy.
	for n := range maxTries {
		f.Stream.Begin()
		e := &engine.Entry{}
		if b := f.Enter(name, p.Now(), e); b != nil {
			return b, n
		}
		if _, waits := e.Waiting(); waits && n > family.MaxWaiting {
			break
		}
	}
	return nil, 0
}

// openBreaker makes a breaker see as many failed and slow ends at once as it wants, until it refuses.
func (p *process) openBreaker(f *engine.Filter, c *rule.CircuitBreaker, name string) (b *engine.Block, after int) {
	end := outcome.End{Outcome: outcome.Badly, ResponseMs: int64(c.MaxAllowedRtMs) + 1}
	want := max(int(min(c.MinRequestAmount, maxTries)), 1)
	if c.Strategy == rule.ErrorCount {
		want = max(want, int(min(c.Threshold, maxTries)))
	}
	for n := 0; n <= 2*want; {
		for range want {
			var e engine.Entry
			f.Stream.Begin()
			if b := f.Enter(name, p.Now(), &e); b != nil {
				return b, n
			}
			e.Exit(p.Now(), end)
			n++
		}
		p.Advance(engine.TickMs * int64(time.Millisecond))
		p.vm.Tick(p.Now())
	}
	return nil, 0
}

// describe is a rule in a few words.
func describe(r rule.Rule) string {
	switch r := r.(type) {
	case *rule.Authority:
		return fmt.Sprintf("%s %s", r.Strategy, r.LimitApp)
	case *rule.Flow:
		return flowInWords(r)
	case *rule.Isolation:
		return fmt.Sprintf("%d in flight", r.Threshold)
	case *rule.Hotspot:
		of := "for each value of " + parametersInWords(r)
		if r.MetricType == rule.HotspotConcurrency {
			return fmt.Sprintf("%d in flight %s", r.Threshold, of)
		}
		interval := fmt.Sprintf("%d s", r.DurationInSec)
		if r.Unit != rule.NoUnit {
			interval = "a " + r.Calendar.Name()
		}
		return fmt.Sprintf("%d in %s %s, burst %d, %s", r.Threshold, interval, of, r.BurstCount, r.ControlBehavior) + costInWords(r.Cost)
	case *rule.CircuitBreaker:
		return breakerInWords(r)
	case *rule.System:
		return fmt.Sprintf("%s up to %v", r.MetricType, r.TriggerCount)
	}
	return ""
}

func breakerInWords(r *rule.CircuitBreaker) string {
	if r.Forced != 0 {
		return "forced " + r.Forced.String()
	}
	text := fmt.Sprintf("%s of %v in %d ms, at least %d requests, retry after %d ms", r.Strategy, r.Threshold, r.StatIntervalMs,
		r.MinRequestAmount, r.RetryTimeoutMs)
	if r.RetryTimeoutMultiplier > 1 {
		text += fmt.Sprintf(", each time %v times as long", r.RetryTimeoutMultiplier)
	}
	if r.RecoveryDurationMs > 0 {
		text += fmt.Sprintf(", then ever more for %d ms", r.RecoveryDurationMs)
	}
	return text
}

// tried is how a rule is tried out, in a few words.
func tried(t *rule.Trial) (text string) {
	if t == nil {
		return ""
	}
	if t.EnabledPercent != nil {
		text += fmt.Sprintf("; asked about %v %% of the requests", *t.EnabledPercent)
	}
	switch {
	case t.Mode == rule.Shadow:
		text += "; in shadow mode: it only counts what it would refuse"
	case t.Action == rule.Annotate:
		text += "; what it would refuse goes to the upstream with x-sentinel-exceeded"
	}
	if t.EnforcedPercent != nil {
		text += fmt.Sprintf("; refuses %v %% of what it would", *t.EnforcedPercent)
	}
	for _, c := range t.Candidates {
		text += fmt.Sprintf("; candidate %v", c)
	}
	return text
}

func flowInWords(r *rule.Flow) string {
	interval := fmt.Sprintf("%d ms", r.StatIntervalInMs)
	if r.Unit != rule.NoUnit {
		interval = "a " + r.Calendar.Name()
	}
	text := fmt.Sprintf("%v in %s, %s, %s", r.Threshold, interval, r.TokenCalculateStrategy, r.ControlBehavior)
	if r.Burst > 0 {
		text += fmt.Sprintf(", burst %d", r.Burst)
	}
	if r.Window != rule.SlidingWindow {
		text += ", window " + r.Window.String()
	}
	text += costInWords(r.Cost)
	if of := r.Refers(); of != "" {
		text += ", of " + of
	}
	if r.LimitApp != "" {
		text += ", limitApp " + r.LimitApp
	}
	return text
}

// costInWords is how many permits an entry takes, nothing for one.
func costInWords(c *rule.Cost) string {
	switch {
	case c == nil:
		return ""
	case c.ParamSource == rule.NoParam:
		return fmt.Sprintf(", %d permits each", c.Default)
	}
	return fmt.Sprintf(", permits by %s %s, at most %d, else %d", c.ParamSource, c.ParamKey, c.Max, c.Default)
}

// parametersInWords is what values are of.
func parametersInWords(r *rule.Hotspot) string {
	var all []string
	for _, p := range r.Each() {
		text := p.ParamSource.String() + " " + p.ParamKey
		if p.V4PrefixLen+p.V6PrefixLen > 0 {
			text = strings.TrimSpace(text) + fmt.Sprintf(" v4/%d v6/%d", cmp.Or(p.V4PrefixLen, 32), cmp.Or(p.V6PrefixLen, 128))
		}
		if p.Missing == rule.EmptyMissing {
			text = strings.TrimSpace(text) + " or without"
		}
		all = append(all, text)
	}
	return strings.Join(all, " and ")
}

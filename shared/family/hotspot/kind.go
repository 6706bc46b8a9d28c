package hotspot

import (
	"math/rand/v2"
	"strconv"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// kind is the hotspot rules of one worker.
type kind struct {
	family.NoKind
	env *family.Env
	// key is that of values which are counted in flight or by a service, kept that of those whose counts may outlive the
	// process: it may be another's.
	key, kept   *Key
	concurrency *Concurrency
	values      family.Pool[record.ID, *sharedValues]
	counts      family.Pool[record.ID, *sharedCounts]
}

// New returns the hotspot rules of a worker.
func New(env *family.Env) family.Kind {
	return &kind{
		env: env,
		// The runtime seeds it from the host's source of randomness.
		key:         NewKey(env.Table, "seed", rand.Uint64),
		kept:        NewKey(env.Table, "kept seed", rand.Uint64),
		concurrency: NewConcurrency(env.Table, &env.Worker.Watch),
		values:      family.NewPool[record.ID, *sharedValues](),
		counts:      family.NewPool[record.ID, *sharedCounts](),
	}
}

// sharedValues are the values of a rule, and sharedCounts what is counted of those that have entries in flight: those
// that have a rule with one id in this worker share them.
type (
	sharedValues struct {
		*Values
		queue             *family.Queue
		evicted, regained metrics.Counter
		// bans are those that began, banned the entries that were refused by one.
		bans, banned metrics.Counter
		// long is whether a value may take long until it has all again.
		long bool
		unlimited
	}
	sharedCounts struct {
		full metrics.Counter
		unlimited
	}
	// unlimited are the entries that the rule does not limit: those that have no value of the parameter, and those of a value
	// that is unlimited.
	unlimited struct{ absent, exempt metrics.Counter }
)

// Bind implements family.Kind.
func (k *kind) Bind(r rule.Rule, f *family.Filter, on string) family.Checker {
	of := r.(*rule.Hotspot)
	base := hotspotRule{
		Base: family.NewBase(k.env, r, f, on, on), Hotspot: of, kind: k, param: f.Stream.Key(request.ParamsOf(of)),
		tiers: request.TiersOf(of), cost: f.Stream.Cost(of.Cost), key: k.key,
	}
	switch {
	case of.MetricType == rule.HotspotConcurrency:
		return newConcurrencyRule(base)
	case of.Cluster != nil:
		return newClusterRule(base)
	}
	base.key = k.kept
	return newValueRule(base)
}

// Tick implements family.Kind: it returns permits and renews what is in flight.
func (k *kind) Tick(now int64) {
	k.values.All(func(v *sharedValues) { k.env.Check("returning permits", v.Settle(now)) })
	if !k.concurrency.Holding() {
		return
	}
	holder, err := k.env.Worker.Identify(now)
	if err == nil {
		err = k.concurrency.Tick(holder, now)
	}
	k.env.Check("renewing what is in flight", err)
}

// Records implements family.Kind. The pages of values and of counts have keys of their own.
func (k *kind) Records(f func(family.Toucher)) {
	for _, key := range [...]*Key{k.key, k.kept} {
		if key.known && k.values.Len()+k.counts.Len() > 0 {
			f(key)
		}
	}
}

// Export implements family.Kind.
func (k *kind) Export(now int64) {
	k.values.All(func(v *sharedValues) {
		v.evicted.N, v.regained.N = v.Evicted, v.Regained
		k.env.Metrics.Export(&v.evicted, now)
		k.env.Metrics.Export(&v.regained, now)
		k.env.Metrics.Export(&v.bans, now)
		k.env.Metrics.Export(&v.banned, now)
		v.unlimited.export(k.env.Metrics, now)
	})
	k.counts.All(func(c *sharedCounts) {
		k.env.Metrics.Export(&c.full, now)
		c.unlimited.export(k.env.Metrics, now)
	})
}

func (u *unlimited) export(m *metrics.Metrics, now int64) {
	m.Export(&u.absent, now)
	m.Export(&u.exempt, now)
}

// hotspotRule is what Sentinel's hotspot rules have in common. What has no value of the parameter is none of theirs.
type hotspotRule struct {
	family.Base
	*rule.Hotspot
	kind   *kind
	param  *request.Key
	id     record.ID
	limits Limits
	// cost is how many permits an entry takes of each value, nil of a rule for which each takes one.
	cost *request.Cost
	// key is whose seed is the process's. seed is that of the rule's values, made from it.
	key               *Key
	seed, processSeed Seed
	// tiers are the specific items that many values have, nil where there are none; found are those of values that were
	// seen, by the hashes of these.
	tiers *request.Tiers
	found map[uint64]*request.Tier
	// joined is memory for Join.
	joined [16]byte
}

// identify gives the rule its values, told apart by its parameter and by shape.
func (r *hotspotRule) identify(what string, shape ...string) {
	for _, p := range r.param.Params() {
		shape = append(shape, p.Source.String(), p.Name, strconv.Itoa(p.Index), strconv.Itoa(int(p.Hops)))
		if p.V4+p.V6 > 0 || p.Lowercase {
			shape = append(shape, strconv.Itoa(p.V4), strconv.Itoa(p.V6), strconv.FormatBool(p.Lowercase))
		}
	}
	r.id = r.RecordID(what, shape...)
}

func (r *hotspotRule) newUnlimited() unlimited {
	return unlimited{
		absent: metrics.Counter{Name: "sentinel_hotspot_absent" + r.labels()},
		exempt: metrics.Counter{Name: "sentinel_hotspot_exempt" + r.labels()},
	}
}

// labels are those of the rule's own metrics.
func (r *hotspotRule) labels() string {
	return metrics.Resource(r.Base.Resource) + metrics.Rule(r.Base.ID)
}

// question is what a rule is asked about: a value, by its hash, and its threshold.
type question struct {
	hash      uint64
	threshold int64
	// there is whether there is a value, again whether there are more after it, and tooMany whether more than may be.
	there, again, tooMany bool
}

// ask is what the rule is asked about. decided is whether it has answered already, by t or a refusal.
func (r *hotspotRule) ask(t *family.Ticket, u *unlimited, now int64) (q question, decided bool, b *family.Refusal, err error) {
	q, err = r.find(now)
	switch {
	case err != nil:
		return q, true, nil, err
	case !q.there:
		u.absent.N++
		return q, true, nil, nil
	case q.tooMany:
		return q, true, r.refuseMany(now), nil
	case q.threshold == rule.Unlimited:
		u.exempt.N++
		t.Again = q.again
		return q, true, nil, nil
	}
	return q, false, nil, nil
}

// find is what the rule is asked about.
func (r *hotspotRule) find(now int64) (q question, err error) {
	if q.there, q.again = r.param.Ask(); !q.there {
		return q, nil
	}
	q.tooMany = r.param.TooMany()
	key := r.key
	if !key.known {
		if _, err := key.Seed(now); err != nil {
			return q, err
		}
	}
	if r.processSeed != key.seed {
		r.processSeed = key.seed
		r.hashItems(key.seed.Of(r.id))
	}
	values := r.param.Values()
	q.hash = r.seed.Hash(values[0])
	var tier *request.Tier
	if r.tiers != nil {
		if tier = r.tierOf(q.hash, values[0]); tier != nil && tier.Shared {
			q.hash = r.seed.Join(&r.joined, r.seed.Hash(tier.Kind.String()), r.seed.Hash(tier.Text)) // no value of a client's has it
		}
	}
	for _, value := range values[1:] {
		q.hash = r.seed.Join(&r.joined, q.hash, r.seed.Hash(value))
	}
	if tier != nil {
		r.remember(q.hash, tier.Threshold)
	}
	q.threshold = r.threshold(q.hash)
	return q, nil
}

// hashItems makes the thresholds of specific items by the hashes of their values, and forgets those of values that were
// seen.
func (r *hotspotRule) hashItems(seed Seed) {
	r.seed, r.limits.Specific, r.found = seed, nil, nil
	if len(r.SpecificItems) > 0 {
		r.limits.Specific = make(map[uint64]int64, len(r.SpecificItems))
	}
	if r.tiers != nil {
		r.found = map[uint64]*request.Tier{}
		return // each is found with its value
	}
	for _, item := range r.SpecificItems {
		threshold := item.Threshold
		if r.Cluster != nil && threshold != rule.Unlimited { // what one process may admit by itself
			threshold = int64(r.Cluster.Local(float64(threshold)))
		}
		r.limits.Specific[seed.Hash(item.ValStr)] = threshold
	}
}

// maxSeen bounds the values whose tiers and thresholds are remembered.
const maxSeen = 4096

// tierOf is the tier of a value, nil where it has none. What is known of values is by hash.
func (r *hotspotRule) tierOf(hash uint64, value string) *request.Tier {
	if tier := r.found[hash]; tier != nil {
		return tier
	}
	tier := r.tiers.Find(value)
	if tier == nil {
		return nil
	}
	if len(r.found) >= maxSeen {
		r.hashItems(r.seed)
	}
	r.found[hash] = tier
	return tier
}

// remember gives a value the threshold of its tier.
func (r *hotspotRule) remember(hash uint64, threshold int64) {
	if t, ok := r.limits.Specific[hash]; ok && t == threshold {
		return
	}
	if len(r.limits.Specific) >= maxSeen {
		r.hashItems(r.seed)
	}
	r.limits.Specific[hash] = threshold
}

// refuseMany refuses a stream that gives more values of the parameter than it may.
func (r *hotspotRule) refuseMany(now int64) *family.Refusal {
	return r.Refuse(request.MaxValues+1, request.MaxValues, "values of one "+r.param.String()+" in one request", 0, now)
}

// threshold is that of a value.
func (r *hotspotRule) threshold(hash uint64) int64 {
	if t, ok := r.limits.Specific[hash]; ok {
		return t
	}
	return r.Threshold
}

package hotspot

const (
	// refusalMs is how long a value's refusal is remembered at most without asking again. Permits that other workers give
	// back meanwhile are seen that much later.
	refusalMs = 2
	// maxRefusals bounds the values of a rule whose refusals are remembered at once.
	maxRefusals = 32
)

// refusals are values that were refused a moment ago, each in the place that its hash says. Only what changes nothing in a
// value's page is remembered: a value that others would find colder than it is has to be counted there first.
type refusals struct{ places *[maxRefusals]refusal }

type refusal struct {
	hash  uint64
	limit Limit
	// maxWait is the longest that somebody was ready to wait, and until when the verdict holds, in nanoseconds; n is for how
	// many permits.
	n, maxWait, until int64
	verdict           Verdict
}

// of is the verdict on a value, where it is remembered.
func (r *refusals) of(hash uint64, l *Limit, n, maxWait, now int64) (Verdict, bool) {
	if r.places == nil {
		return Verdict{}, false
	}
	p := &r.places[hash%maxRefusals]
	return p.verdict, p.hash == hash && now < p.until && p.limit == *l && n == p.n && maxWait <= p.maxWait
}

// remember keeps a refusal for a moment.
func (r *refusals) remember(o *taking) {
	if r.places == nil {
		r.places = new([maxRefusals]refusal)
	}
	until := o.verdict.FreeAt
	if o.limit.Paced {
		until = o.verdict.At - o.maxWait
	}
	r.places[o.hash%maxRefusals] = refusal{o.hash, o.limit, o.n, o.maxWait, min(until, o.now+refusalMs*1e6), o.verdict}
}

// forget lets a value be asked about again: it has got something back.
func (r *refusals) forget(hash uint64) {
	if r.places != nil && r.places[hash%maxRefusals].hash == hash {
		r.places[hash%maxRefusals].until = 0
	}
}

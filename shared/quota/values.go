package quota

import (
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rls"
	"sentinel-envoy/shared/rule"
)

const (
	// maxValues bounds the values of a rule that a worker has at hand, and maxCalls the calls that it makes for them at once:
	// whatever clients send, memory and calls are bounded.
	maxValues = 512
	maxCalls  = 64
)

// Values are the limits that the values of one rule's parameter have at a service, as one worker sees them: each has its
// own, by a descriptor that ends with the value.
//
// How the service does is known by one limit for all, of the empty value: while that falls back nobody asks for a value.
type Values struct {
	of      *Quotas
	key     Key
	entries []rls.Entry
	pilot   *Quota
	refs    int
	// calls are under way; nobody says what became of some of a filter that was replaced, but by callsUntil all have ended.
	calls      int
	callsUntil int64
	// live are the values at hand, by their hashes, and order the same in the order in which they came. oldest is the place in
	// it of the next that makes room.
	live   map[uint64]*Quota
	order  []*Quota
	oldest int
}

// AcquireValues returns the limits that values have by a descriptor, which a value is added to, until each who has acquired
// them has called Release. name is the rule's, for the log.
func (qs *Quotas) AcquireValues(at rule.RateLimitService, name string, entries []rls.Entry) *Values {
	key := keyOf(at, entries)
	v := qs.values[key.name()]
	if v == nil {
		v = &Values{of: qs, key: key, entries: entries, live: map[uint64]*Quota{}}
		v.pilot = qs.Acquire(at, name, v.descriptor(""))
		qs.values[key.name()] = v
	}
	v.refs++
	return v
}

// descriptor is that of a value. Its text is copied: a host lends what it says of a stream for one callback, and calls are
// made in later ones.
func (v *Values) descriptor(value string) []rls.Entry {
	return append(slices.Clone(v.entries), rls.Entry{Key: "value", Value: strings.Clone(Name(value))})
}

// longest is the longest value that the service hears as it is, in bytes.
const longest = 128

// Name is what the service calls a value: a hash of one that is long, or that is no text and which it would not read.
func Name(value string) string {
	if len(value) <= longest && utf8.ValidString(value) {
		return value
	}
	sum := checksum.MD5([]byte(value))
	return "md5:" + hex.EncodeToString(sum[:])
}

// Release gives the limits up, at the time now.
func (v *Values) Release(now int64) {
	if v.refs--; v.refs > 0 {
		return
	}
	v.of.check("returning permits", v.settle(now))
	delete(v.of.values, v.key.name())
	v.pilot.Release()
}

// Take asks for one permit for a value, whose hash is of the rule and the value; see Quota.Take.
func (v *Values) Take(hash uint64, value string, again bool, now int64) (Verdict, error) {
	v.pilot.awakeUntil = now + awake
	if v.pilot.failing {
		return Verdict{Outcome: Down, At: now}, nil
	}
	q := v.limit(hash, value, now)
	if now >= v.callsUntil {
		v.calls = 0
	}
	if q.left == 0 && v.calls >= maxCalls {
		return Verdict{Outcome: Pending, At: now, Patience: q.patience(now)}, nil
	}
	return q.Take(again, now)
}

// limit is that of a value.
func (v *Values) limit(hash uint64, value string, now int64) *Quota {
	q := v.live[hash]
	if q != nil {
		return q
	}
	q = &Quota{
		of: v.of, key: v.key, entries: v.descriptor(value), service: v.pilot.service, values: v, hash: hash,
		cell: v.of.table.Fixed("limits", int((hash>>32*valuePages)>>32)),
	}
	v.live[hash] = q
	if len(v.order) < maxValues {
		v.order = append(v.order, q)
		return q
	}
	v.oldest = (v.oldest + 1) % maxValues
	old := v.order[v.oldest]
	v.of.check("returning permits", old.giveUp(now))
	delete(v.live, old.hash)
	v.order[v.oldest] = q
	return q
}

// giveUp returns what was leased and not spent.
func (q *Quota) giveUp(now int64) error {
	if q.left == 0 || now >= q.ends {
		q.left = 0
		return nil
	}
	back := q.left
	q.size -= back
	q.left = 0
	return q.settle(q.window, back, now)
}

// GiveBack returns a permit of a window for a value that was not used after all. That of a value which was forgotten
// meanwhile is lost.
func (v *Values) GiveBack(hash uint64, window, now int64) error {
	if q := v.live[hash]; q != nil {
		return q.GiveBack(window, now)
	}
	return nil
}

// tick returns what was leased and not spent, and forgets the values that nobody has asked for.
func (v *Values) tick(now int64) error {
	err := v.settle(now)
	v.order = slices.DeleteFunc(v.order, func(q *Quota) bool {
		idle := now >= q.awakeUntil
		if idle {
			delete(v.live, q.hash)
		}
		return idle
	})
	return err
}

func (v *Values) settle(now int64) error {
	var first error
	for _, q := range v.order {
		if err := q.giveUp(now); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// called counts a call that begins at the time now, and ended its end; v is nil where it is not for a value.
func (v *Values) called(timeout, now int64) {
	if v != nil {
		v.calls++
		v.callsUntil = now + timeout + slack
	}
}

func (v *Values) ended() {
	if v != nil {
		v.calls = max(v.calls-1, 0)
	}
}

// changed takes note that a call for a value has failed: the next one for any is made once the service answers again.
func (v *Values) changed(failing bool, why error) {
	if !failing || v.pilot.failing {
		return
	}
	now := v.of.host.Now()
	o := failure{}
	if err := v.of.table.Update(&v.pilot.cell, now, &o); err != nil {
		v.of.check("noting that the rate limit service fails", err)
		return
	}
	v.pilot.op.state = o.state
	v.pilot.changed(o.before, why)
}

// failure is the update of a limit's record by what others have seen: that the service does not answer.
type failure struct {
	state  State
	before bool
}

// Apply implements record.Transition.
func (o *failure) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	s := &o.state
	*s = State{}
	if r.Payload != nil && !s.Decode(r.Payload, r.Now) {
		return dst, record.Unreadable
	}
	if o.before = s.Failing(); !o.before {
		s.fail(r.Now)
	}
	return s.Encode(dst), record.StoreIf(!o.before || r.Lost)
}

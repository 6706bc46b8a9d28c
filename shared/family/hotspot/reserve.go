package hotspot

const (
	// maxReserves bounds the values that a worker reserves permits of at once.
	maxReserves = 256
	// reservePart is the part of what a value has left that a worker takes at most: near the end that is nothing.
	reservePart = 64
)

// reserve are permits of a value that this worker has taken and not yet spent. They are of one bucket, and are spent only
// before it can be filled again; a tick gives back what is left.
type reserve struct {
	at, left int64
	// limit is the one under which they were taken, until when they may be spent, in nanoseconds.
	limit Limit
	until int64
	// uses are those since the last tick, and half of those before: how much it makes sense to take.
	uses int64
}

// spend takes n permits from a value's reserve, and reports whether there were as many.
func (r *reserve) spend(l *Limit, n, now int64) bool {
	if r.left < n || now >= r.until || r.limit.most() != l.most() || r.limit.DurationMs != l.DurationMs {
		return false
	}
	r.left -= n
	return true
}

// reserve is that of a value, nil where too many have one or it makes no sense: a ban is to stop every worker at once.
func (v *Values) reserve(hash uint64, l *Limit) *reserve {
	if l.BanAfter > 0 { // though it had one before its rule banned: the next tick gives back what is left of that
		return nil
	}
	r := v.last
	if r == nil || v.lastHash != hash {
		if r = v.reserves[hash]; r != nil {
			v.last, v.lastHash = r, hash
		}
	}
	if r != nil {
		r.uses++
		return r
	}
	if l.Paced || l.most() < reservePart || len(v.reserves) >= maxReserves {
		return nil
	}
	r = &reserve{}
	v.reserves[hash] = r
	return r
}

// Settle gives back what was reserved and not spent. It must be called in every tick.
func (v *Values) Settle(now int64) error {
	var first error
	for hash, r := range v.reserves {
		if r.left > 0 {
			if err := v.giveBack(hash, r.left, r.limit, r.at, now); err != nil && first == nil {
				first = err
			}
			r.left = 0
		}
		if r.uses /= 2; r.uses == 0 {
			delete(v.reserves, hash)
			v.last = nil
		}
	}
	return first
}

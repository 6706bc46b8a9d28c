package hotspot

import (
	"encoding/binary"
	"math"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/persist"
	"sentinel-envoy/shared/record"
)

// What is kept of the hotspot rules: the values that have more than a minute until they have all again, bans among them, and the
// key of their hash. Values in flight and places in a line are not.
//
// An entry of a value is what a page has of it. Whose rule it is need not be known.
const (
	// keptMs is how much time a value must take until it has all, in milliseconds: that of a minute's window is a little longer
	// than that.
	keptMs = persist.Longer + 1000
	// pagesPerPart is how many pages one part of a snapshot reads.
	pagesPerPart = 16
	seedSize     = 16
)

// valuePart are some of the pages.
type valuePart struct {
	table *record.Table
	first int
	read  reading
}

// seedPart is the key of the hash.
type seedPart struct{ key *Key }

// Parts implements family.Keeper.
func (k *kind) Parts(f func(family.Part)) {
	long := false
	if k.values.All(func(v *sharedValues) { long = long || v.long }); !long {
		return
	}
	f(seedPart{k.kept})
	parts := make([]valuePart, valuePages/pagesPerPart)
	for i := range parts {
		parts[i] = valuePart{table: k.env.Table, first: i * pagesPerPart}
		f(&parts[i])
	}
}

// Refresh implements family.Keeper.
func (k *kind) Refresh(now int64) error { return k.kept.Refresh(now) }

// Keep implements family.Part.
func (p seedPart) Keep(s *persist.Snapshot, now int64) error {
	var r reading
	cell := p.key.cell
	if err := p.key.table.Update(&cell, now, &r); err != nil || len(r.payload) != seedSize {
		return err
	}
	s.Add(persist.ValueSeed, persist.Always, r.payload)
	return nil
}

// Keep implements family.Part.
func (p *valuePart) Keep(s *persist.Snapshot, now int64) error {
	for n := p.first; n < p.first+pagesPerPart; n++ {
		cell := p.table.Fixed("values", n)
		if err := p.table.Update(&cell, now, &p.read); err != nil {
			return err
		}
		content := page(p.read.payload)
		if len(content) == 0 || !content.intact() {
			continue
		}
		for i := range content.values() {
			if v := content.value(i); v.kept(now) {
				s.Add(persist.Value, min(v.heat(now), math.MaxInt64-1), content[pageHeader+i*valueSize:pageHeader+(i+1)*valueSize])
			}
		}
	}
	return nil
}

// kept is whether a value is worth keeping at the time now. What is counted towards a ban is, where that takes long.
func (s *seen) kept(now int64) bool {
	return s.most != 0 && s.fullMs > keptMs && !s.ahead(now) && s.regains(now) > 0
}

// reading copies a record.
type reading struct{ payload []byte }

// Apply implements record.Transition.
func (o *reading) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	if o.payload = o.payload[:0]; !r.Lost {
		o.payload = append(o.payload, r.Payload...)
	}
	return dst, record.Keep
}

// Sound implements family.Keeper.
func (k *kind) Sound(e persist.Entry) (mine, sound bool) {
	switch e.Kind {
	case persist.ValueSeed:
		return true, len(e.Data) == seedSize
	case persist.Value:
		return true, len(e.Data) == valueSize && soundValue(valueOf(e.Data))
	}
	return false, false
}

// soundValue is whether a page can have that of a value.
func soundValue(s seen) bool {
	if s.most == refusalsMark {
		return s.left >= 0
	}
	return s.most > 0 && s.left <= int64(s.most)
}

// Restore implements family.Keeper.
func (k *kind) Restore(e persist.Entry, at *persist.Shift, now int64) error {
	if e.Kind == persist.ValueSeed {
		return k.kept.Take(Seed{binary.LittleEndian.Uint64(e.Data), binary.LittleEndian.Uint64(e.Data[8:])}, now)
	}
	s := valueOf(e.Data)
	s.at = at.Past(s.at)
	cell := k.env.Table.Fixed("values", pageOf(s.hash, valuePages))
	return k.env.Table.Update(&cell, now, &restoring{seen: s})
}

// Take makes a seed that of all workers. What was hashed by another is of no value any more.
func (k *Key) Take(s Seed, now int64) error {
	err := k.table.Update(&k.cell, now, replacing{s})
	if err == nil {
		k.seed, k.known = s, true
	}
	return err
}

// replacing replaces a seed.
type replacing struct{ seed Seed }

// Apply implements record.Transition.
func (o replacing) Apply(dst []byte, _ record.State) ([]byte, record.Outcome) {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, o.seed[0]), o.seed[1]), record.Store
}

// restoring adds a value to its page, or takes what it is short of from what the page has of it.
type restoring struct{ seen }

// Apply implements record.Transition. Of a page that was lost nobody has anything left already.
func (o *restoring) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	s := o.seen
	s.at = min(s.at, r.Now)
	missing := s.regains(r.Now)
	if r.Lost || missing == 0 {
		return dst, record.Keep
	}
	start := len(dst)
	if r.Payload == nil {
		dst = binary.LittleEndian.AppendUint64(dst, 0)
	} else if dst = append(dst, r.Payload...); !page(r.Payload).intact() {
		return dst[:start], record.Unreadable
	}
	p := page(dst[start:])
	i := p.find(s.hash)
	switch {
	case i >= 0:
		s = p.value(i).with(s, missing, r.Now)
	case p.values() < room:
		i = p.values()
		dst = append(dst, make([]byte, valueSize)...)
	default:
		if i = p.coldest(r.Now); p.valueHeat(i, r.Now) >= s.heat(r.Now) {
			return dst[:start], record.Keep
		}
	}
	page(dst[start:]).put(i, s)
	return dst, record.Store
}

func (p page) valueHeat(i int, now int64) int64 {
	s := p.value(i)
	return s.heat(now)
}

// coldest is the place of the value that has least to regain.
func (p page) coldest(now int64) (place int) {
	for i := range p.values() {
		if p.valueHeat(i, now) < p.valueHeat(place, now) {
			place = i
		}
	}
	return place
}

// with is what a page has of a value, and what was kept of it, together: of refusals whichever are hotter, else what is left
// less what was missing.
func (s seen) with(before seen, missing, now int64) seen {
	if before.most == refusalsMark || s.most == refusalsMark {
		if before.heat(now) > s.heat(now) {
			return before
		}
		return s
	}
	s.left = max(max(s.left, 0)-missing, min(s.left, 0))
	s.fullMs = max(s.fullMs, before.fullMs)
	return s
}

package engine

import "sentinel-envoy/shared/ledger"

// toucher has a record that must be marked as in use.
type toucher interface{ Touch(now int64) error }

// registry are the things of a kind that the filters of a VM share: those that have rules with one id.
type registry[T toucher] map[ledger.ID]*shared[T]

type shared[T toucher] struct {
	value T
	refs  int
}

// acquire returns the thing with an id, made where there is none, until each who has it has called release.
func (g registry[T]) acquire(id ledger.ID, make func() T) T {
	s := g[id]
	if s == nil {
		s = &shared[T]{value: make()}
		g[id] = s
	}
	s.refs++
	return s.value
}

// release ends one use, and reports whether it was the last.
func (g registry[T]) release(id ledger.ID) (gone bool) {
	s := g[id]
	if s.refs--; s.refs > 0 {
		return false
	}
	delete(g, id)
	return true
}

func (g registry[T]) all(f func(T)) {
	for _, s := range g {
		f(s.value)
	}
}

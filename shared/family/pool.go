package family

// Pool are the things of one kind that the rules of a worker share: those with one key.
type Pool[K comparable, T any] struct{ items map[K]*pooled[T] }

type pooled[T any] struct {
	value T
	refs  int
}

// NewPool returns an empty pool.
func NewPool[K comparable, T any]() Pool[K, T] { return Pool[K, T]{items: map[K]*pooled[T]{}} }

// Acquire returns the thing with a key, made where there is none, until each who has it has called Release.
func (p Pool[K, T]) Acquire(key K, make func() T) T {
	s := p.items[key]
	if s == nil {
		s = &pooled[T]{value: make()}
		p.items[key] = s
	}
	s.refs++
	return s.value
}

// Release ends one use, and reports whether it was the last. The thing is then gone, unless keep: it then stays for whoever
// acquires it next, until Drop.
func (p Pool[K, T]) Release(key K, keep bool) (last bool) {
	s := p.items[key]
	if s.refs--; s.refs > 0 {
		return false
	}
	if !keep {
		delete(p.items, key)
	}
	return true
}

// Drop removes a thing that was kept, unless it is in use again.
func (p Pool[K, T]) Drop(key K) {
	if s := p.items[key]; s != nil && s.refs == 0 {
		delete(p.items, key)
	}
}

// All calls f with each thing.
func (p Pool[K, T]) All(f func(T)) {
	for _, s := range p.items {
		f(s.value)
	}
}

// Len is how many things there are.
func (p Pool[K, T]) Len() int { return len(p.items) }

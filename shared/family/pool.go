package family

// Pool are the things of one kind that the rules of a worker share: those with one key.
//
// All goes through a list: TinyGo's range over a map whose keys are no plain values, as those with texts in them are not,
// reads a key after the last, too, wherever that points.
type Pool[K comparable, T any] struct {
	items map[K]*pooled[T]
	all   []*pooled[T]
}

type pooled[T any] struct {
	value T
	refs  int
	// at is the place in all.
	at int
}

// NewPool returns an empty pool.
func NewPool[K comparable, T any]() Pool[K, T] { return Pool[K, T]{items: map[K]*pooled[T]{}} }

// Acquire returns the thing with a key, made where there is none, until each who has it has called Release.
func (p *Pool[K, T]) Acquire(key K, make func() T) T {
	s := p.items[key]
	if s == nil {
		s = &pooled[T]{value: make()}
		s.at = len(p.all)
		p.items[key], p.all = s, append(p.all, s)
	}
	s.refs++
	return s.value
}

// Release ends one use, and reports whether it was the last. The thing is then gone, unless keep: it then stays for whoever
// acquires it next, until Drop.
func (p *Pool[K, T]) Release(key K, keep bool) (last bool) {
	s := p.items[key]
	if s.refs--; s.refs > 0 {
		return false
	}
	if !keep {
		p.remove(key, s)
	}
	return true
}

// Drop removes a thing that was kept, unless it is in use again.
func (p *Pool[K, T]) Drop(key K) {
	if s := p.items[key]; s != nil && s.refs == 0 {
		p.remove(key, s)
	}
}

func (p *Pool[K, T]) remove(key K, s *pooled[T]) {
	delete(p.items, key)
	last := len(p.all) - 1
	p.all[s.at] = p.all[last]
	p.all[s.at].at = s.at
	p.all[last] = nil
	p.all = p.all[:last]
}

// All calls f with each thing. f may remove the one that it is called with, and no other.
func (p *Pool[K, T]) All(f func(T)) {
	for i := len(p.all) - 1; i >= 0; i-- {
		f(p.all[i].value)
	}
}

// Len is how many things there are.
func (p *Pool[K, T]) Len() int { return len(p.items) }

// Package lookup finds values by names that are known beforehand, for requests to look up what they name. A map of Go's would
// do, but TinyGo's puts the name that it looks for on the heap, each time.
package lookup

// Table is a hash table by names, with linear probing. Its zero value is empty. Nothing can be removed. What is looked up may
// be a client's: it adds nothing, and no more of it is read than the longest of the names has bytes.
type Table[V any] struct {
	slots   []slot[V] // a power of two of them, at least half of which are free
	n       int
	longest int // of the names, in bytes
}

type slot[V any] struct {
	hash  uint32 // 0 where the slot is free
	name  string
	value V
}

// Len is how many names there are.
func (t *Table[V]) Len() int { return t.n }

// Get is the value of a name, and whether there is one.
func (t *Table[V]) Get(name string) (value V, found bool) {
	if t.n == 0 || len(name) > t.longest {
		return value, false
	}
	s := &t.slots[t.find(hash(name), name)]
	return s.value, s.hash != 0
}

// Put gives a name a value, in place of that which it had.
func (t *Table[V]) Put(name string, value V) {
	if 2*(t.n+1) > len(t.slots) {
		t.grow()
	}
	h := hash(name)
	s := &t.slots[t.find(h, name)]
	if s.hash == 0 {
		t.n++
		t.longest = max(t.longest, len(name))
	}
	*s = slot[V]{h, name, value}
}

func (t *Table[V]) grow() {
	old := t.slots
	t.slots = make([]slot[V], max(8, 2*len(old)))
	for i := range old {
		if s := &old[i]; s.hash != 0 {
			t.slots[t.find(s.hash, s.name)] = *s
		}
	}
}

// find is the slot of a name, or the free one where it would be.
func (t *Table[V]) find(h uint32, name string) uint32 {
	last := uint32(len(t.slots) - 1)
	i := h & last
	for s := &t.slots[i]; s.hash != 0 && (s.hash != h || s.name != name); s = &t.slots[i] {
		i = (i + 1) & last
	}
	return i
}

// hash is 32-bit FNV-1a with the bits mixed as MurmurHash3 ends, and never 0. It has no key: what clients send is not stored.
func hash(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	if h ^= h >> 16; h == 0 {
		return 1
	}
	return h
}

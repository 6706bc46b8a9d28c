// Package lookup finds names that are known beforehand, for requests to look up what they name. A map of Go's would do, but
// TinyGo's puts the name that it looks for on the heap, each time.
package lookup

// None is the number of a name that is not there.
const None = -1

// Table numbers names in the order in which they come, from 0 on. It is a hash table with linear probing; its zero value is
// empty. What is looked up may be a client's: it adds nothing, and no more of it is read than the longest of the names has
// bytes.
type Table struct {
	slots   []slot // a power of two of them, at least half of which are free
	n       int
	longest int // of the names, in bytes
}

type slot struct {
	hash   uint32 // 0 where the slot is free
	number int32
	name   string
}

// Find is the number of a name, or None.
func (t *Table) Find(name string) int {
	if t.n == 0 || len(name) > t.longest {
		return None
	}
	h, last := hash(name), uint32(len(t.slots)-1)
	for i := h; ; i++ {
		switch s := &t.slots[i&last]; {
		case s.hash == 0:
			return None
		case s.hash == h && s.name == name:
			return int(s.number)
		}
	}
}

// Add is the number of a name, which is added where it is not there.
func (t *Table) Add(name string) int {
	if n := t.Find(name); n != None {
		return n
	}
	if old := t.slots; 2*(t.n+1) > len(old) {
		t.slots = make([]slot, max(8, 2*len(old)))
		for i := range old {
			if old[i].hash != 0 {
				t.put(&old[i])
			}
		}
	}
	t.put(&slot{hash(name), int32(t.n), name})
	t.n++
	t.longest = max(t.longest, len(name))
	return t.n - 1
}

// put puts what is in a slot into a free one.
func (t *Table) put(s *slot) {
	last := uint32(len(t.slots) - 1)
	i := s.hash & last
	for t.slots[i].hash != 0 {
		i = (i + 1) & last
	}
	t.slots[i] = *s
}

// hash is 32-bit FNV-1a with the bits mixed as MurmurHash3 ends, and never 0. It has no key: what clients send is not
// stored.
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

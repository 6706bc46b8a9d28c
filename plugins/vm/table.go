package vm

// streams are the VM's, by the ids of their contexts: a hash table with open addressing and linear probing. Envoy numbers
// contexts one after the other, so that nearly each finds its slot at once.
type streams struct {
	slots []slot // as many as a power of two
	count int
}

type slot struct {
	id     uint32 // 0 in a free slot: Envoy's numbers begin with 1
	stream *Base
}

const fewestSlots = 64

// get returns the stream of a context, nil if there is none.
func (s *streams) get(id uint32) *Base {
	if i, found := s.find(id); found {
		return s.slots[i].stream
	}
	return nil
}

// put sets the stream of a context.
func (s *streams) put(id uint32, stream *Base) {
	if 2*(s.count+1) > len(s.slots) {
		s.resize(max(fewestSlots, 2*len(s.slots)))
	}
	i, found := s.find(id)
	if !found {
		s.count++
	}
	s.slots[i] = slot{id, stream}
}

// take removes the stream of a context and returns it, nil if there is none.
func (s *streams) take(id uint32) *Base {
	i, found := s.find(id)
	if !found {
		return nil
	}
	stream := s.slots[i].stream
	s.free(i)
	s.count--
	if len(s.slots) > fewestSlots && 8*s.count < len(s.slots) {
		s.resize(len(s.slots) / 2)
	}
	return stream
}

// find gives the slot of a context, or the free one it would take.
func (s *streams) find(id uint32) (index int, found bool) {
	if len(s.slots) == 0 {
		return 0, false
	}
	mask := uint32(len(s.slots) - 1)
	for i := id & mask; ; i = (i + 1) & mask { // ends: half of the slots at least are free
		switch s.slots[i].id {
		case id:
			return int(i), true
		case 0:
			return int(i), false
		}
	}
}

// free empties a slot and moves up those behind it that were put there because it was taken.
func (s *streams) free(hole int) {
	mask := len(s.slots) - 1
	for i := (hole + 1) & mask; s.slots[i].id != 0; i = (i + 1) & mask {
		home := int(s.slots[i].id) & mask
		if (i-home)&mask >= (i-hole)&mask {
			s.slots[hole] = s.slots[i]
			hole = i
		}
	}
	s.slots[hole] = slot{}
}

func (s *streams) resize(size int) {
	old := s.slots
	s.slots = make([]slot, size)
	for _, e := range old {
		if e.id != 0 {
			i, _ := s.find(e.id)
			s.slots[i] = e
		}
	}
}

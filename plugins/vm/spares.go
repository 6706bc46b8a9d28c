package vm

// Spares are streams of a filter that are over, for reuse: one that begins then allocates nothing. The zero value has none.
type Spares[T any] struct{ all []*T }

// maxSpares bounds the streams kept for reuse.
const maxSpares = 1024

// Take takes a stream that is over, nil if there is none.
func (s *Spares[T]) Take() *T {
	last := len(s.all) - 1
	if last < 0 {
		return nil
	}
	stream := s.all[last]
	s.all = s.all[:last]
	return stream
}

// Put keeps a stream that is over, unless there are many.
func (s *Spares[T]) Put(stream *T) {
	if len(s.all) < maxSpares {
		s.all = append(s.all, stream)
	}
}

package publication

import (
	"encoding/binary"
	"errors"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/source"
	"sentinel-envoy/shared/worker"
)

// A text is in pieces of chunkSize bytes: the pieces are records with keys of their own, as many for each of a source's two
// buffers as the longest text needs.
const (
	chunkSize = 16 << 10
	maxChunks = source.MaxText / chunkSize
)

// ErrText means that a text is not there as it was published.
var ErrText = errors.New("publication: the text in shared data is not what was published")

// Text is the text of a version of a source. It fails with ErrText or the host's error.
func (b *Board) Text(id record.ID, v Version, now int64) ([]byte, error) {
	number := b.numberOf(id)
	if number < 0 {
		return nil, ErrText
	}
	text := make([]byte, 0, v.Size)
	for i := 0; len(text) < v.Size; i++ {
		c := b.cellOf(number, v.buffer, i)
		b.chunk = chunk{text: text}
		if err := b.table.Update(&c, now, &b.chunk); err != nil {
			return nil, err
		}
		if len(b.chunk.text) == len(text) {
			return nil, ErrText
		}
		text = b.chunk.text
	}
	if len(text) != v.Size || hashOf(text) != v.Hash {
		return nil, ErrText
	}
	return text, nil
}

// write puts a text into a buffer of a source, and reports whether it is still this worker's to fill: a later text there is
// of another worker, which has taken over meanwhile.
func (b *Board) write(number int, buffer uint8, text []byte, now int64) (kept bool, err error) {
	for i := 0; len(text) > 0; i++ {
		n := min(len(text), chunkSize)
		c := b.cellOf(number, buffer, i)
		b.chunk = chunk{writes: true, begun: now, text: text[:n]}
		if err := b.table.Update(&c, now, &b.chunk); err != nil || b.chunk.late {
			return false, err
		}
		text = text[n:]
	}
	b.chunk = chunk{}
	return true, nil
}

func (b *Board) cellOf(number int, buffer uint8, i int) record.Cell {
	return b.table.Fixed("document", (2*number+int(buffer))*maxChunks+i)
}

// chunk is one look at a piece of a text, which is appended to text, or its replacement by text.
type chunk struct {
	writes bool
	begun  int64
	text   []byte
	late   bool
}

const chunkHeader = 8

// Apply implements record.Transition. A piece is the time at which its text began to be written, and its bytes.
func (c *chunk) Apply(dst []byte, s record.State) (next []byte, outcome record.Outcome) {
	intact := len(s.Payload) >= chunkHeader
	if !c.writes {
		if intact {
			c.text = append(c.text, s.Payload[chunkHeader:]...)
		}
		return dst, record.Keep
	}
	if c.late = intact && int64(binary.LittleEndian.Uint64(s.Payload)) > c.begun; c.late {
		return dst, record.Keep
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.begun))
	return append(dst, c.text...), record.Store
}

// hashOf is the hash of a text by which versions are told apart.
func hashOf(text []byte) uint64 {
	return max(checksum.Hash(checksum.Seed, text), 1) // 0 is that of no text
}

// Hash is the hash that a text has as a version.
func Hash(text []byte) uint64 { return hashOf(text) }

// jitter is a share from -1 to 1 by which times are spread, the same for everybody at one time.
func jitter(id record.ID, now int64) float64 {
	b := binary.LittleEndian.AppendUint64(id[:len(id):len(id)], uint64(now))
	return float64(hashOf(b)%2001)/1000 - 1
}

// maxBackOff is the longest that a source that fails is left alone, in nanoseconds, unless its interval is longer.
const maxBackOff = 30e9

// After is when a source that was asked at a time is to be asked again, all in nanoseconds: after its interval, give or take a
// tenth; where it has failed several times on end, twice as long for each.
func (e *Entry) After(asked, interval int64) int64 {
	wait := interval
	for n := 1; n < e.Failures && wait < maxBackOff; n++ {
		wait = min(2*wait, max(interval, maxBackOff))
	}
	return asked + wait + int64(float64(wait)*jitter(e.ID, asked)/10)
}

// Answered notes a good answer at the time now. One that only says that nothing has changed is none where what was read last
// was refused.
func (e *Entry) Answered(now int64) {
	if e.Refused == 0 {
		e.Good = now
	}
}

// Free is whether anybody may become the source's owner.
func (e *Entry) Free(now int64) bool { return e.Owner == worker.Identity{} || now-e.Beat >= Abandoned }

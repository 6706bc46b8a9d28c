package checksum

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// shifts are the rotations of RFC 1321, four for each of its rounds, and sines its table T.
var (
	shifts = [4][4]int{{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}}
	sines  = func() (t [64]uint32) {
		for i := range t {
			t[i] = uint32(int64(math.Abs(math.Sin(float64(i+1))) * (1 << 32)))
		}
		return t
	}()
)

const md5Block = 64

// MD5 is the MD5 sum of RFC 1321, which servers compare contents by. It proves nothing. The standard library's brings a hundred
// kilobytes of other cryptography with it, which every Envoy would compile.
func MD5(data []byte) (sum [16]byte) {
	state := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	whole := len(data) / md5Block * md5Block
	for i := 0; i < whole; i += md5Block {
		md5Mix(&state, data[i:i+md5Block])
	}
	rest := append(append(make([]byte, 0, 2*md5Block), data[whole:]...), 0x80)
	for len(rest)%md5Block != md5Block-8 {
		rest = append(rest, 0)
	}
	rest = binary.LittleEndian.AppendUint64(rest, uint64(len(data))*8)
	for i := 0; i < len(rest); i += md5Block {
		md5Mix(&state, rest[i:i+md5Block])
	}
	for i, word := range state {
		binary.LittleEndian.PutUint32(sum[4*i:], word)
	}
	return sum
}

// md5Mix takes one block into the state.
func md5Mix(state *[4]uint32, block []byte) {
	a, b, c, d := state[0], state[1], state[2], state[3]
	for i := range 64 {
		var f uint32
		var word int
		switch i / 16 {
		case 0:
			f, word = b&c|^b&d, i
		case 1:
			f, word = d&b|^d&c, (5*i+1)%16
		case 2:
			f, word = b^c^d, (3*i+5)%16
		case 3:
			f, word = c^(b|^d), 7*i%16
		}
		f += a + sines[i] + binary.LittleEndian.Uint32(block[4*word:])
		a, b, c, d = d, b+bits.RotateLeft32(f, shifts[i/16][i%4]), b, c
	}
	state[0] += a
	state[1] += b
	state[2] += c
	state[3] += d
}

// Package checksum marks what we write to shared data and queues, so that what somebody else writes there is noticed.
package checksum

// Sum is 32-bit FNV-1a. It finds rubbish, not forgery.
func Sum(data []byte) uint32 {
	sum := uint32(2166136261)
	for _, b := range data {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return sum
}

// Seed is the hash of nothing.
const Seed = uint64(14695981039346656037)

// Hash is 64-bit FNV-1a of a text behind what has the hash h: Seed where it is the first. It tells texts apart that nobody has made
// for having the same.
func Hash[T string | []byte](h uint64, text T) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return h
}

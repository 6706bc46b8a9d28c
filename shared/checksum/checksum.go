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

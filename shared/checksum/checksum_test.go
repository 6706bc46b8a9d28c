package checksum_test

import (
	"testing"

	"sentinel-envoy/shared/checksum"
)

// The vectors are those that the authors of FNV publish for 32-bit FNV-1a.
func TestSumIsFNV1a(t *testing.T) {
	for data, want := range map[string]uint32{"": 0x811c9dc5, "a": 0xe40c292c, "foobar": 0xbf9cf968} {
		if got := checksum.Sum([]byte(data)); got != want {
			t.Errorf("Sum(%q) = %#x, want %#x", data, got, want)
		}
	}
}

package checksum_test

import (
	"testing"

	"sentinel-envoy/shared/checksum"
)

// So are these, for 64-bit FNV-1a.
func TestHashIsFNV1a(t *testing.T) {
	for text, want := range map[string]uint64{"": 0xcbf29ce484222325, "a": 0xaf63dc4c8601ec8c, "foobar": 0x85944171f73967e8} {
		if got := checksum.Hash(checksum.Seed, text); got != want {
			t.Errorf("Hash(%q) = %#x, want %#x", text, got, want)
		}
		first, rest := text[:len(text)/2], []byte(text[len(text)/2:])
		if got := checksum.Hash(checksum.Hash(checksum.Seed, first), rest); got != want {
			t.Errorf("in two parts it is %#x, want %#x", got, want)
		}
	}
}

// The vectors are those that the authors of FNV publish for 32-bit FNV-1a.
func TestSumIsFNV1a(t *testing.T) {
	for data, want := range map[string]uint32{"": 0x811c9dc5, "a": 0xe40c292c, "foobar": 0xbf9cf968} {
		if got := checksum.Sum([]byte(data)); got != want {
			t.Errorf("Sum(%q) = %#x, want %#x", data, got, want)
		}
	}
}

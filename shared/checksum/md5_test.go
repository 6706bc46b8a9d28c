package checksum_test

import (
	"crypto/md5"
	"strings"
	"testing"

	"sentinel-envoy/shared/checksum"
)

func TestMD5IsTheStandardLibrarys(t *testing.T) {
	for n := range 300 { // all that can be at the end of a block
		data := []byte(strings.Repeat("rules ", n)[:n])
		if got, want := checksum.MD5(data), md5.Sum(data); got != want {
			t.Fatalf("of %d bytes: %x, want %x", n, got, want)
		}
	}
}

package host_test

import (
	"errors"
	"fmt"
	"testing"

	"sentinel-envoy/shared/host"
)

func TestTextIsAsFmtHasIt(t *testing.T) {
	for _, v := range []any{
		"text", "", errors.New("wrong"), true, -7, int64(1) << 40, uint64(1<<64 - 1), 0.25, 1e21,
	} {
		if got, want := host.Text(v), fmt.Sprint(v); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := host.Text(struct{}{}); got == "" {
		t.Error("no text of a struct")
	}
}

func TestPanicked(t *testing.T) {
	defer func() {
		if got := host.Panicked(recover()).Error(); got != "panic: runtime error: index out of range [1] with length 0" {
			t.Errorf("%q", got)
		}
	}()
	var none []int
	_ = none[len(none)+1]
}

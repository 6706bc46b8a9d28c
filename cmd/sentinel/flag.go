package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// words is a flag that takes one of a few words.
type words struct {
	value *string
	of    []string
}

// choice is a flag for dst that takes one of the words, the first if none is given.
func choice(dst *string, of ...string) pflag.Value {
	*dst = of[0]
	return &words{dst, of}
}

// Set implements pflag.Value.
func (w *words) Set(s string) error {
	if !slices.Contains(w.of, s) {
		return errors.New("must be " + strings.Join(w.of, " or "))
	}
	*w.value = s
	return nil
}

// String implements pflag.Value.
func (w *words) String() string { return *w.value }

// Type implements pflag.Value.
func (w *words) Type() string { return "word" }

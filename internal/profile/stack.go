package main

import (
	"bufio"
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
)

// frame is one line of a stack: a function and the file its code is in.
type frame struct{ symbol, file string }

// stack is one sample, innermost frame first.
type stack []frame

// frameLine matches what perf script writes for a frame: an address, a symbol and a file.
var frameLine = regexp.MustCompile(`^\s+[0-9a-f]+ (.*) \((.*)\)$`)

// eachStack calls f with each stack in the text of perf script, with or without header lines.
func eachStack(text []byte, f func(stack)) error {
	var s stack
	flush := func() {
		if len(s) > 0 {
			f(s)
		}
		s = nil
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m := frameLine.FindStringSubmatch(lines.Text()); m != nil {
			s = append(s, frame{m[1], m[2]})
		} else { // blank, or a header
			flush()
		}
	}
	flush()
	return lines.Err()
}

// compiled tells V8's code, Wasm functions and what leads into and out of them, from the rest.
func (f frame) compiled() bool { return strings.HasPrefix(f.file, "/tmp/perf-") }

// wasm tells a function of the plugin, which V8 names after the module's own name for it.
func (f frame) wasm() bool { return f.compiled() && strings.HasPrefix(f.symbol, "JS:") }

// kernel is true also for the kernel's modules, which have names in brackets as well.
func (f frame) kernel() bool {
	return strings.HasPrefix(f.file, "[") && f.file != "[vdso]" && f.file != "[unknown]"
}

// callbackSymbol matches an export that Envoy calls.
var callbackSymbol = regexp.MustCompile(`^JS:(?:override_)?proxy_(on_\w+)-\d+-\w+$`)

// callback gives the name of the callback that Envoy made, such as on_request_headers; "" for none. It is the outermost
// one: on_memory_allocate comes within others.
func (s stack) callback() string {
	for _, f := range slices.Backward(s) {
		if m := callbackSymbol.FindStringSubmatch(f.symbol); m != nil && f.compiled() {
			return m[1]
		}
	}
	return ""
}

// whole tells a stack that goes back to the start of its thread, so that no callback is missed.
func (s stack) whole() bool {
	switch s[len(s)-1].symbol {
	case "start_thread", "__clone3", "clone3", "__libc_start_call_main", "__libc_start_main", "_start":
		return true
	}
	return false
}

// site is where a sample fell.
type site struct {
	callback string // "" outside of any
	kind     kind
	function string // of the plugin: the running one, or the one that called the host; "" outside of callbacks
}

// profile counts samples by where they fell.
type profile struct {
	samples int
	cut     int // those whose stack does not go back to the start of its thread
	at      map[site]int
}

// attribute reads the text of perf script. It fails where no sample fell in a callback.
func attribute(text []byte) (profile, error) {
	p := profile{at: map[site]int{}}
	guest := false
	err := eachStack(text, func(s stack) {
		at := s.site()
		p.at[at]++
		p.samples++
		if !s.whole() {
			p.cut++
		}
		guest = guest || at.callback != ""
	})
	if err == nil && !guest {
		err = errors.New("no sample is in a callback of the plugin: either it had no load, or perf found no names of its functions")
	}
	return p, err
}

// site tells where the innermost frame belongs to.
func (s stack) site() site {
	callback := s.callback()
	if callback == "" {
		return site{kind: outsideKind(s[0])}
	}
	function := ""
	if i := slices.IndexFunc(s, frame.wasm); i >= 0 {
		function = s[i].symbol
	}
	switch {
	case s[0].wasm():
		return site{callback, guestKind(function), readable(function)}
	case s[0].compiled():
		return site{callback, machinery, readable(s[0].symbol)}
	}
	// The kernel right above the plugin's code is an interrupt, another process's turn or a page fault: no call of the host.
	if i := slices.IndexFunc(s, func(f frame) bool { return !f.kernel() }); s[i].compiled() {
		return site{callback, machinery, "kernel"}
	}
	return site{callback, hostCall, readable(function)}
}

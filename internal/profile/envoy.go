package main

import (
	"bytes"
	"fmt"
	"os"
)

// Envoy's Proxy-Wasm host gives V8 its flags as one format string (src/v8/v8.cc) that begins like this, in releases from
// 1.39 on. The first figure is the bound on memory pages, the other one that of stack traces.
const (
	flagsPrefix   = "--no-liftoff"
	flagsKnown    = flagsPrefix + " --wasm_max_mem_pages=%u"
	flagsProfiled = flagsPrefix + " --perf-basic-prof --wasm_max_mem_pages=%u"
)

// copyProfiled copies an Envoy binary to one that writes /tmp/perf-<pid>.map, where perf looks for the names of functions
// that are compiled at run time.
func copyProfiled(to, from string) error {
	binary, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := patch(binary); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return os.WriteFile(to, binary, 0o700)
}

// patch replaces the V8 flags of an Envoy binary in place by others of the same length. The error says that they are not
// there exactly once, or are none that this command knows; then nothing is changed.
func patch(binary []byte) error {
	if n := bytes.Count(binary, []byte(flagsPrefix)); n != 1 {
		return fmt.Errorf("V8's flags %q are there %d times and not once: is this Envoy 1.39 or later?", flagsPrefix, n)
	}
	flags := binary[bytes.Index(binary, []byte(flagsPrefix)):]
	end := bytes.IndexByte(flags, 0)
	if end < 0 {
		return fmt.Errorf("V8's flags %q have no end", flagsPrefix)
	}
	flags = flags[:end]
	if !bytes.HasPrefix(flags, []byte(flagsKnown)) || len(flags) < len(flagsProfiled) {
		return fmt.Errorf("V8's flags are %q, where --perf-basic-prof has no place: is this Envoy 1.39 or later?", flags)
	}
	n := copy(flags, flagsProfiled)
	copy(flags[n:], bytes.Repeat([]byte(" "), len(flags)-n))
	return nil
}

// symbolFile is where V8 and perf expect the names of a process's functions.
func symbolFile(pid int) string { return fmt.Sprintf("/tmp/perf-%d.map", pid) }

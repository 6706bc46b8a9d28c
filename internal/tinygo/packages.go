package tinygo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// needs are the packages of Debian 12 or later that TinyGo is built with and runs with, each with a file of it.
var needs = []struct{ name, file string }{
	{"g++", "/usr/bin/g++"},
	{"llvm-19-dev", "/usr/lib/llvm-19/include/llvm-c/Core.h"},
	{"libclang-19-dev", "/usr/lib/llvm-19/include/clang-c/Index.h"},
	{"clang-19", "/usr/lib/llvm-19/bin/clang"},
	{"lld-19", "/usr/lib/llvm-19/bin/wasm-ld"},
	{"libclang-rt-19-dev-wasm32", "/usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a"},
	{"wasi-libc", "/usr/lib/wasm32-wasi/libc.a"},
	{"binaryen", "/usr/bin/wasm-opt"},
}

// missing are the names of the packages whose files exists does not see.
func missing(exists func(path string) bool) (names []string) {
	for _, p := range needs {
		if !exists(p.file) {
			names = append(names, p.name)
		}
	}
	return names
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ErrPackages is in errors about packages that are missing and could not be installed.
var ErrPackages = errors.New("TinyGo needs packages of Debian's that are missing")

// MissingPackages are the names of those.
func MissingPackages() []string { return missing(exists) }

// needPackages installs the packages that are missing. Where it may not, its error says how.
func needPackages(ctx context.Context, log io.Writer) error {
	names := MissingPackages()
	if len(names) == 0 {
		return nil
	}
	const update = "apt-get update"
	install := "apt-get install -y --no-install-recommends " + strings.Join(names, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return byHand(names, update+" && "+install)
	}
	for _, command := range []string{update, install} {
		fmt.Fprintln(log, command)
		args := strings.Fields(command)
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s; %s: %w\n%s", ErrPackages, strings.Join(names, ", "), command, err, out)
		}
	}
	return nil
}

// byHand says what somebody must do who can do what needPackages may not.
func byHand(names []string, command string) error {
	return fmt.Errorf("%w: %s. As root: %s. "+
		"Or name a TinyGo of your own, 0.41 or later: TINYGO=/path/of/tinygo", ErrPackages, strings.Join(names, ", "), command)
}

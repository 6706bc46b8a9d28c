// Package plugintest has what the end-to-end tests and the soak tests both need: builds of the plugins, clients that know
// their worker, and what the plugins write into Envoy's log.
package plugintest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"sentinel-envoy/internal/tinygo"
	"sentinel-envoy/internal/wasmbuild/build"
)

// root is the project's directory, seen from the packages that import this one.
const root = "../.."

// scratch is where the builds of a test process are.
var scratch string

// Run runs the tests of a package, and removes what was built for them. The result is for os.Exit.
func Run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "sentinel-test"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	return m.Run()
}

// Scratch gives the path of a file that all tests of the process share; it is gone when Run is over.
func Scratch(name string) string { return filepath.Join(scratch, name) }

// Build gives a function that builds a Wasm file into scratch when it is first called, and gives its path. Of the options,
// Dir and Out are set here.
func Build(name string, o build.Options) func() (path string, err error) {
	return sync.OnceValues(func() (string, error) {
		o.Dir, o.Out = root, Scratch(name)
		_, err := build.Build(context.Background(), o)
		return o.Out, err
	})
}

// Plugins builds the plugins, by the compiler of the artefact under test, with these build tags.
func Plugins(name, tags string) func() (path string, err error) {
	return plugins(name, build.Options{Tags: tags})
}

// Named builds the plugins as they are, by the compiler of the artefact under test, with the names of their functions.
func Named(name string) func() (path string, err error) {
	return plugins(name, build.Options{Names: true})
}

func plugins(name string, o build.Options) func() (path string, err error) {
	return sync.OnceValues(func() (string, error) {
		o.Package = "./plugins"
		if Tiny() {
			c, err := tinygo.Find(context.Background(), tinygo.Options{Dir: root, Log: os.Stderr})
			if err != nil {
				return "", err
			}
			o.TinyGo, o.TinyGoTarget = c.Path, c.Target
		}
		return Build(name, o)()
	})
}

// Faulty builds the plugins so that they do what a request's header x-sentinel-fault says: "panic", "trap" or "trap-idle".
var Faulty = Plugins("faulty.wasm", "faultinjection")

// File is what file gives. The test fails where that is an error.
func File(t testing.TB, file func() (string, error)) string {
	t.Helper()
	path, err := file()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// PerSecond is a flow rule that admits so many in a second: in every two adjacent buckets of 500 ms.
func PerSecond(id, resource string, threshold int) string {
	return fmt.Sprintf(`{"id": %q, "resource": %q, "threshold": %d}`, id, resource, threshold)
}

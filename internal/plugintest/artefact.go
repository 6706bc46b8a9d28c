package plugintest

import (
	"fmt"
	"os"
	"testing"
)

// envArtefact is the environment variable that says which artefact is under test: "go", the default, or "tiny".
const envArtefact = "SENTINEL_ARTEFACT"

// Tiny is whether the plugins under test are those that TinyGo compiles.
func Tiny() bool {
	switch artefact := os.Getenv(envArtefact); artefact {
	case "", "go":
		return false
	case "tiny":
		return true
	default:
		panic(fmt.Sprintf("%s=%s: must be go or tiny", envArtefact, artefact))
	}
}

// NeedsRecover skips a test in which the plugins outlive a panic of theirs, where the artefact under test cannot.
func NeedsRecover(t testing.TB) {
	t.Helper()
	if Tiny() {
		t.Skip("TinyGo has no recover for Wasm: a panic traps the VM, and failure_policy decides instead of failure_mode")
	}
}

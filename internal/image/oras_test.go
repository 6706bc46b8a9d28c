package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// TestPageOfORAS runs the commands of docs/image.md with ORAS itself: what is attached to an image is found, fetched, and what
// make image has written.
func TestPageOfORAS(t *testing.T) {
	// Without a list of referrers: that of this registry gives another type than the artifact has. A tag lists them then.
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	repository := strings.TrimPrefix(server.URL, "http://") + "/sentinel"
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	o := source(t)
	o.push = repository + ":v0.1.0"
	write(t, o)
	if err := run(t.Context(), io.Discard, o); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/image.md")
	if err != nil {
		t.Fatal(err)
	}
	c := &orasClient{t, buildORAS(t), t.TempDir(), string(page), repository}

	c.page("oras discover registry.example.com/sentinel:v0.1.0")
	var found struct {
		Referrers []struct{ ArtifactType, Digest string }
	}
	text := c.page("oras discover registry.example.com/sentinel:v0.1.0", "--format", "json")
	if err := json.Unmarshal(text, &found); err != nil || len(found.Referrers) != 2 {
		t.Fatalf("%v: %s", err, text)
	}
	files := map[string]string{"text/plain": "sentinel.wasm.sha256", "application/vnd.cyclonedx+json": "sentinel.cdx.json"}
	for _, r := range found.Referrers {
		c.run("oras pull " + repository + "@" + r.Digest)
		name := files[r.ArtifactType]
		got, err := os.ReadFile(filepath.Join(c.dir, name))
		if err != nil || !bytes.Equal(got, read(t, o, name)) {
			t.Errorf("%s (%s): %v, %.80q", name, r.ArtifactType, err, got)
		}
	}

	c.page("oras pull registry.example.com/sentinel:v0.1.0-artifact")
	const check = "mv plugin.wasm sentinel.wasm && sha256sum -c sentinel.wasm.sha256"
	if !strings.Contains(c.text, check) {
		t.Errorf("docs/image.md does not say: %s", check)
	}
	command := exec.CommandContext(t.Context(), "sh", "-c", check)
	command.Dir = c.dir
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// orasClient runs commands of ORAS's in a folder.
type orasClient struct {
	t                           *testing.T
	path, dir, text, repository string
}

// page runs a command that docs/image.md has, with further flags.
func (c *orasClient) page(command string, flags ...string) []byte {
	c.t.Helper()
	if !strings.Contains(c.text, command) {
		c.t.Fatalf("docs/image.md does not say: %s", command)
	}
	return c.run(strings.ReplaceAll(command, "registry.example.com/sentinel", c.repository), flags...)
}

func (c *orasClient) run(command string, flags ...string) []byte {
	c.t.Helper()
	args := append(append(strings.Fields(command)[1:], "--plain-http"), flags...) // the test's registry has no TLS
	cmd := exec.CommandContext(c.t.Context(), c.path, args...)
	cmd.Dir = c.dir
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%s: %v: %s", command, err, errs.String())
	}
	return out
}

// buildORAS builds the release that the module in oras pins.
func buildORAS(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "oras")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "oras.land/oras/cmd/oras")
	cmd.Dir = "oras"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// source links a tree in which images can be made: the project's, with plugins of the test's own.
func source(t *testing.T) options {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "NOTICE", "plugins", "shared", ".git"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return options{root: dir, out: "made/image", version: "v0.1.0", plugins: []string{"sentinel.wasm", "sentinel-tiny.wasm"}}
}

func write(t *testing.T, o options) {
	t.Helper()
	for _, name := range o.plugins {
		if err := os.WriteFile(filepath.Join(o.root, name), []byte("the plugin "+name), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, o options, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(o.root, o.out, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestSameImagesElsewhere makes the images in two places. All digests are in the index.
func TestSameImagesElsewhere(t *testing.T) {
	var index [2][]byte
	for i := range index {
		o := source(t)
		write(t, o)
		var log bytes.Buffer
		for range 2 { // the second time in place of the first
			log.Reset()
			if err := run(t.Context(), &log, o); err != nil {
				t.Fatal(err)
			}
		}
		index[i] = read(t, o, "oci/index.json")
		lines := regexp.MustCompile(`(?m)^made/image/oci:(\S+) sha256:[0-9a-f]{64}$`).FindAllStringSubmatch(log.String(), -1)
		var tags []string
		for _, l := range lines {
			tags = append(tags, l[1])
		}
		if got := strings.Join(tags, " "); got != "v0.1.0 v0.1.0-artifact v0.1.0-tiny v0.1.0-tiny-artifact" {
			t.Errorf("it says:\n%s", log.String())
		}
		if left, _ := os.ReadDir(filepath.Join(o.root, "made")); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	}
	if !bytes.Equal(index[0], index[1]) {
		t.Errorf("two builds differ:\n%s\n%s", index[0], index[1])
	}
}

// TestListOfParts decodes the lists of both plugins: only TinyGo's has TinyGo's parts, and all have licences.
func TestListOfParts(t *testing.T) {
	o := source(t)
	write(t, o)
	if err := run(t.Context(), io.Discard, o); err != nil {
		t.Fatal(err)
	}
	for name, tiny := range map[string]bool{"sentinel": false, "sentinel-tiny": true} {
		var bom cdx.BOM
		err := cdx.NewBOMDecoder(bytes.NewReader(read(t, o, name+".cdx.json")), cdx.BOMFileFormatJSON).Decode(&bom)
		if err != nil {
			t.Fatal(err)
		}
		sum := string(read(t, o, name+".wasm.sha256"))
		if main := bom.Metadata.Component; sum != (*main.Hashes)[0].Value+"  "+name+".wasm\n" || main.Version != "v0.1.0" {
			t.Errorf("the list is about %+v, the checksum %s", main, sum)
		}
		found := map[string]string{}
		for _, c := range *bom.Components {
			found[c.Name] = c.Version
			if c.Licenses == nil || len(*c.Licenses) != 1 {
				t.Errorf("%s has the licences %v", c.Name, c.Licenses)
			}
		}
		if found["github.com/alibaba/sentinel-golang"] != "v1.0.4" || !strings.HasPrefix(found["std"], "1.") {
			t.Errorf("%s consists of %v", name, found)
		}
		if _, has := found["wasi-libc"]; has != tiny {
			t.Errorf("%s consists of %v", name, found)
		}
	}
}

func TestImageSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(o *options)
		want  string
	}{
		"no plugin":    {func(o *options) { o.plugins = nil }, "which plugins"},
		"missing file": {func(o *options) { o.plugins = []string{"absent.wasm"} }, "absent.wasm"},
		"no tag":       {func(o *options) { o.push = "registry.example.com/sentinel" }, "say host/repository:tag"},
		"bad tag":      {func(o *options) { o.push = "registry.example.com/sentinel:a b" }, "say host/repository:tag"},
		"no registry":  {func(o *options) { o.push = "127.0.0.1:1/sentinel:v1" }, "127.0.0.1:1/sentinel"},
	} {
		t.Run(name, func(t *testing.T) {
			o := source(t)
			write(t, o)
			c.spoil(&o)
			if err := run(t.Context(), io.Discard, o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

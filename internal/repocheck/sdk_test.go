package repocheck

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyEnvoyhostKnowsTheSDK(t *testing.T) {
	const only = "plugins/envoyhost"
	for pkg, list := range imports(t) {
		for _, i := range list {
			if strings.HasPrefix(i, sdk) && pkg != module+only {
				t.Errorf("%s imports %s", pkg, i)
			}
		}
	}
	// By go:linkname it could be reached without an import.
	err := filepath.WalkDir(filepath.Join(root, "plugins"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasPrefix(path, filepath.Join(root, only)+"/") {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "go:linkname") {
			t.Errorf("%s links names", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

package build

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// versionPackage has the variables that the linker sets.
const versionPackage = "sentinel-envoy/shared/version"

// versionForm is what a version may look like: the linker's flags are separated by spaces.
var versionForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]*$`)

// Tag returns the release that dir's commit is tagged as, such as "v0.1.0". It is "" where no tag begins with v and a digit,
// where tracked files differ from the commit, and where there is no repository or no git.
func Tag(ctx context.Context, dir string) string {
	tag := describe(ctx, dir, "--tags", "--exact-match", "--match=v[0-9]*", "--dirty")
	if strings.HasSuffix(tag, "-dirty") {
		return ""
	}
	return tag
}

// Commit returns the abbreviated commit that dir is at, with "-dirty" after it where tracked files differ. It is "" where
// there is no repository, no commit or no git.
func Commit(ctx context.Context, dir string) string {
	// A fixed length: git's own choice grows with the clone.
	return describe(ctx, dir, "--always", "--exclude=*", "--abbrev=12", "--dirty")
}

// describe returns what git describe prints, or "" where it fails.
func describe(ctx context.Context, dir string, args ...string) string {
	cmd := exec.CommandContext(ctx, "git", append([]string{"describe"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// versionFlags are the linker's flags that tell the plugin what it was built from.
func versionFlags(ctx context.Context, o Options) ([]string, error) {
	version := o.Version
	if version == "" {
		version = Tag(ctx, o.Dir)
	}
	var flags []string
	if version != "" {
		if !versionForm.MatchString(version) {
			return nil, fmt.Errorf("version %q: must be letters, digits and any of . + _ -, such as v0.1.0", version)
		}
		flags = append(flags, "-X", versionPackage+".Version="+version)
	}
	if c := Commit(ctx, o.Dir); c != "" {
		flags = append(flags, "-X", versionPackage+".Commit="+c)
	}
	return flags, nil
}

// Package version names the build a binary comes from. The values are set at link time; a plain `go build` or `go test`
// leaves the defaults.
package version

var (
	// Version is the release, such as "v0.1.0", or "dev" for a build that is no release.
	Version = "dev"
	// Commit is the source's commit, abbreviated, with "-dirty" after it where tracked files differed; "unknown" where
	// the build had no repository to ask.
	Commit = "unknown"
)

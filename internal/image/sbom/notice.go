package sbom

import (
	"regexp"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// notice is what NOTICE says of licences.
type notice struct {
	library string            // of Go's standard library
	modules map[string]string // by their paths
	tiny    []cdx.Component   // what only TinyGo links; NOTICE knows no versions
}

// heading is the first line of a section: what it is about, and its licence in brackets.
var heading = regexp.MustCompile(`(?m)^-{80}\n(.+) \((.+)\)$`)

// parseNotice reads the headings of the sections. What stands below the double line only TinyGo links.
func parseNotice(text string) notice {
	shared, tiny, _ := strings.Cut(text, strings.Repeat("=", 80))
	n := notice{modules: map[string]string{}}
	for _, m := range heading.FindAllStringSubmatch(shared, -1) {
		if strings.Contains(m[1], "/") {
			n.modules[m[1]] = m[2]
		} else {
			n.library = m[2]
		}
	}
	for _, m := range heading.FindAllStringSubmatch(tiny, -1) {
		n.tiny = append(n.tiny, cdx.Component{BOMRef: m[1], Type: cdx.ComponentTypeLibrary, Name: m[1], Licenses: licences(m[2])})
	}
	return n
}

// spdx is a licence that SPDX has a name for, perhaps with an exception.
var spdx = regexp.MustCompile(`^(MIT|[A-Za-z]+-[0-9.]+(-Clause)?)( WITH [A-Za-z-]+)?$`)

// licences are a licence in CycloneDX's words: SPDX's expression where it is one, else what it is called.
func licences(text string) *cdx.Licenses {
	if name, _, _ := strings.Cut(text, ","); spdx.MatchString(name) {
		return &cdx.Licenses{{Expression: name}}
	}
	return &cdx.Licenses{{License: &cdx.License{Name: text}}}
}

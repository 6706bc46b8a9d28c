package build

import (
	"bytes"
	"fmt"
	"regexp"
)

// The names of Unicode's tables, and of regular expressions' own, are in maps, which Go makes by code at the start of each
// VM: 80 KB that run once, for names that few expressions have. As lists they are data, and are looked through in turn.

// edit is a piece of a file, which it must have once, and what takes its place.
type edit struct{ old, new string }

// listing is what becomes of a file with maps: edits, and entries that match get the form of a list's.
type listing struct {
	entry  *regexp.Regexp
	listed string // what an entry becomes, as regexp.ReplaceAll has it
	edits  []edit
}

// inLists are the files of the standard library that are changed so. Where one is another than here the build fails.
var inLists = map[string]listing{
	"unicode/tables.go": {regexp.MustCompile(`(?m)^\t("\w+"): +("?\w+"?),$`), "\t{$1, $2},", []edit{
		{"var Categories = map[string]*RangeTable{", "var Categories = Tables{"},
		{"var Scripts = map[string]*RangeTable{", "var Scripts = Tables{"},
		{"var Properties = map[string]*RangeTable{", "var Properties = Tables{"},
		{"var FoldCategory = map[string]*RangeTable{", "var FoldCategory = Tables{"},
		{"var FoldScript = map[string]*RangeTable{", "var FoldScript = Tables{"},
		{"var CategoryAliases = map[string]string{", "var CategoryAliases = [][2]string{"},
		{"package unicode\n", `package unicode; type Tables []struct { name string; table *RangeTable }; ` +
			`func (ts Tables) Of(name string) *RangeTable { for i := range ts { if ts[i].name == name { return ts[i].table } }; return nil }` +
			"\n"},
	}},
	"regexp/syntax/perl_groups.go": {regexp.MustCompile("(?m)^\t(`\\S+`): +(\\{[-+]1, code\\d+\\}),$"), "\t{$1, charGroup$2},", []edit{
		{"var perlGroup = map[string]charGroup{", "var perlGroup = charGroups{"},
		{"var posixGroup = map[string]charGroup{", "var posixGroup = charGroups{"},
		{"package syntax\n", `package syntax; type charGroups []struct { name string; group charGroup }; ` +
			`func (gs charGroups) of(name string) charGroup { for i := range gs { if gs[i].name == name { return gs[i].group } }; return charGroup{} }` +
			"\n"},
	}},
	"regexp/syntax/parse.go": {nil, "", []edit{
		{"perlGroup[s[0:2]]", "perlGroup.of(s[0:2])"},
		{"posixGroup[name]", "posixGroup.of(name)"},
		{`unicode.Categories["LC"], unicode.FoldCategory["LC"]`, `unicode.Categories.Of("LC"), unicode.FoldCategory.Of("LC")`},
		{"t := unicode.Categories[name]", "t := unicode.Categories.Of(name)"},
		{"t, unicode.FoldCategory[name]", "t, unicode.FoldCategory.Of(name)"},
		{"t := unicode.Scripts[name]", "t := unicode.Scripts.Of(name)"},
		{"t, unicode.FoldScript[name]", "t, unicode.FoldScript.Of(name)"},
		{"t := unicode.Categories[actual]", "t := unicode.Categories.Of(actual)"},
		{"t, unicode.FoldCategory[actual]", "t, unicode.FoldCategory.Of(actual)"},
		{"for name, actual := range unicode.CategoryAliases {",
			"for _, alias := range unicode.CategoryAliases { name, actual := alias[0], alias[1]"},
	}},
}

// change returns the file as it becomes. Lines keep their numbers. name is used in errors only.
func (l listing) change(name string, src []byte) ([]byte, error) {
	for _, e := range l.edits {
		if n := bytes.Count(src, []byte(e.old)); n != 1 {
			return nil, fmt.Errorf("%s: %d times %q, want one: this Go release has its names elsewhere", name, n, e.old)
		}
		src = bytes.Replace(src, []byte(e.old), []byte(e.new), 1)
	}
	if l.entry != nil {
		src = l.entry.ReplaceAll(src, []byte(l.listed))
	}
	return src, nil
}

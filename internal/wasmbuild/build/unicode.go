package build

import (
	"bytes"
	"fmt"
	"regexp"
)

// The names of Unicode's tables, and of regular expressions' own, are in maps, which Go makes by code at the start of each
// VM: 70 KB that run once, for names that few expressions have. As lists they are data, and are looked through in turn. And
// the few letters that are one in another case are put in order by 12 KB.

// edit is a piece of a file, which it must have so many times, and what takes its place.
type edit struct {
	old, new string
	times    int
}

// listing is what becomes of a file with maps: edits, and entries that match get the form of a list's.
type listing struct {
	entry  *regexp.Regexp
	listed string // what an entry becomes, as regexp.ReplaceAll has it
	edits  []edit
}

// inLists are the files of the standard library that are changed so. Where one is another than here the build fails.
var inLists = map[string]listing{
	"unicode/tables.go": {regexp.MustCompile(`(?m)^\t("\w+"): +("?\w+"?),$`), "\t{$1, $2},", []edit{
		{"var Categories = map[string]*RangeTable{", "var Categories = Tables{", 1},
		{"var Scripts = map[string]*RangeTable{", "var Scripts = Tables{", 1},
		{"var Properties = map[string]*RangeTable{", "var Properties = Tables{", 1},
		{"var FoldCategory = map[string]*RangeTable{", "var FoldCategory = Tables{", 1},
		{"var FoldScript = map[string]*RangeTable{", "var FoldScript = Tables{", 1},
		{"var CategoryAliases = map[string]string{", "var CategoryAliases = [][2]string{", 1},
		{"package unicode\n", "package unicode; " + listOf("Tables", "Of", "*RangeTable", "nil") + "\n", 1},
	}},
	"regexp/syntax/perl_groups.go": {regexp.MustCompile("(?m)^\t(`\\S+`): +(\\{[-+]1, code\\d+\\}),$"), "\t{$1, charGroup$2},",
		[]edit{
			{"var perlGroup = map[string]charGroup{", "var perlGroup = charGroups{", 1},
			{"var posixGroup = map[string]charGroup{", "var posixGroup = charGroups{", 1},
			{"package syntax\n", "package syntax; " + listOf("charGroups", "of", "charGroup", "charGroup{}") + "\n", 1},
		}},
	"regexp/syntax/parse.go": {edits: []edit{
		{"perlGroup[s[0:2]]", "perlGroup.of(s[0:2])", 1},
		{"posixGroup[name]", "posixGroup.of(name)", 1},
		{`unicode.Categories["LC"], unicode.FoldCategory["LC"]`, `unicode.Categories.Of("LC"), unicode.FoldCategory.Of("LC")`, 1},
		{"t := unicode.Categories[name]", "t := unicode.Categories.Of(name)", 1},
		{"t, unicode.FoldCategory[name]", "t, unicode.FoldCategory.Of(name)", 1},
		{"t := unicode.Scripts[name]", "t := unicode.Scripts.Of(name)", 1},
		{"t, unicode.FoldScript[name]", "t, unicode.FoldScript.Of(name)", 1},
		{"t := unicode.Categories[actual]", "t := unicode.Categories.Of(actual)", 1},
		{"t, unicode.FoldCategory[actual]", "t, unicode.FoldCategory.Of(actual)", 1},
		{"for name, actual := range unicode.CategoryAliases {",
			"for _, alias := range unicode.CategoryAliases { name, actual := alias[0], alias[1]", 1},
	}},
	"regexp/onepass.go": {edits: []edit{
		{"\t\"slices\"\n", "\n", 1},
		{"slices.Sort(runes)", "inOrder(runes)", 2},
		{"\t\"unicode/utf8\"\n)\n", "\t\"unicode/utf8\"\n); func inOrder(list []rune) { for i := range list { " +
			"for ; i > 0 && list[i] < list[i-1]; i-- { list[i], list[i-1] = list[i-1], list[i] } } }\n", 1},
	}},
}

// listOf declares a type of list, and the method that finds what is under a name, or else none.
func listOf(list, method, of, none string) string {
	return fmt.Sprintf("type %[1]s []struct { name string; is %[3]s }; func (l %[1]s) %[2]s(name string) %[3]s { "+
		"for i := range l { if l[i].name == name { return l[i].is } }; return %[4]s }", list, method, of, none)
}

// change returns the file as it becomes. Lines keep their numbers. name is used in errors only.
func (l listing) change(name string, src []byte) ([]byte, error) {
	for _, e := range l.edits {
		if n := bytes.Count(src, []byte(e.old)); n != e.times {
			return nil, fmt.Errorf("%s: %d times %q, want %d: this Go release has it elsewhere", name, n, e.old, e.times)
		}
		src = bytes.ReplaceAll(src, []byte(e.old), []byte(e.new))
	}
	if l.entry != nil {
		src = l.entry.ReplaceAll(src, []byte(l.listed))
	}
	return src, nil
}

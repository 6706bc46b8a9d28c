package repocheck

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/rule"
)

// row is a line of a table of keys.
type row struct {
	doc     string
	places  []string // of the keys, from the first cell
	values  []string // those that the key may have, where it takes only some
	initial string   // the default: a value as code, or words
	bound   string
	example string // a JSON value
}

var span = regexp.MustCompile("`([^`]+)`")

// spans are the parts of a cell that are marked as code.
func spans(cell string) (all []string) {
	for _, m := range span.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

// keyColumns are the headers of a table of keys.
var keyColumns = []string{"key", "type", "default", "bound", "example", "what it is"}

// keyRows are the rows of all tables of keys.
func keyRows(t *testing.T) (rows []row) {
	t.Helper()
	for doc, text := range documents(t) {
		inTable := false
		for line := range strings.Lines(text) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			switch {
			case len(cells) < 2:
				inTable = false
			case cells[0] == "key":
				if inTable = slices.Equal(cells, keyColumns); !inTable {
					t.Errorf("%s has a table of keys with the columns %q, want %q", doc, cells, keyColumns)
				}
			case inTable && !strings.HasPrefix(cells[0], "---"):
				rows = append(rows, parseRow(t, doc, cells))
			}
		}
	}
	return rows
}

func parseRow(t *testing.T, doc string, cells []string) row {
	t.Helper()
	if len(cells) != len(keyColumns) {
		t.Fatalf("%s: %d cells, want %d: %q", doc, len(cells), len(keyColumns), cells)
	}
	for i, column := range keyColumns[:5] {
		if cells[i] == "" {
			t.Errorf("%s: %s has no %s", doc, cells[0], column)
		}
	}
	r := row{doc: doc, places: places(cells[0]), values: spans(cells[1]), initial: cells[2], bound: cells[3]}
	if example := spans(cells[4]); len(example) == 1 {
		r.example = example[0]
	}
	return r
}

// places are the keys of a cell. One that begins with *Rules stands for that of every family.
func places(cell string) (all []string) {
	for _, place := range spans(cell) {
		key, of := strings.CutPrefix(place, "*Rules[].")
		if !of {
			all = append(all, place)
			continue
		}
		for _, f := range rule.Families {
			all = append(all, f.Key+"[]."+key)
		}
	}
	return all
}

// Every key of the configuration is in a table, at its place, and with each value where it takes only some.
func TestEveryKeyIsDocumented(t *testing.T) {
	have := accepted(t)
	if len(have) < 60 || len(have["hotspotRules[].paramSource"]) < 8 || len(have["mode"]) != 2 {
		t.Fatalf("only %d keys: the test does not see what the parser takes: %v", len(have), have)
	}
	told := map[string]bool{}
	for _, r := range keyRows(t) {
		for _, place := range r.places {
			if told[place] {
				t.Errorf("%s has %s twice", r.doc, place)
			}
			told[place] = true
			if want, ok := have[place]; !ok {
				t.Errorf("%s names the key %s, which there is not", r.doc, place)
			} else if len(want) > 0 {
				seeValues(t, r, place, want)
			}
		}
	}
	for place := range have {
		if !told[place] {
			t.Errorf("%s is in no table of keys", place)
		}
	}
}

func seeValues(t *testing.T, r row, place string, want []string) {
	t.Helper()
	for _, w := range want {
		if !slices.ContainsFunc(r.values, func(v string) bool { return strings.EqualFold(v, w) }) {
			t.Errorf("%s does not say that %s may be %s", r.doc, place, w)
		}
	}
	for _, v := range r.values {
		if !slices.ContainsFunc(want, func(w string) bool { return strings.EqualFold(v, w) }) {
			t.Errorf("%s says that %s may be %s, which it may not", r.doc, place, v)
		}
	}
}

// The parser takes each key's example and default, and refuses what is beyond the bound.
func TestKeysAreAsDocumented(t *testing.T) {
	for _, r := range keyRows(t) {
		for _, place := range r.places {
			if got := refused(place, r.example); got != "" || r.example == "" {
				t.Errorf("%s: %s may not be as in its example, %s: %s", r.doc, place, r.example, got)
			}
			seeDefault(t, r, place)
			for _, v := range inside(r.bound) {
				if got := refused(place, v); strings.HasPrefix(got, "must be ≥") || strings.HasPrefix(got, "must be ≤") || strings.Contains(got, "at most") {
					t.Errorf("%s: %s may not be %.20s, which is within %s: %s", r.doc, place, v, r.bound, got)
				}
			}
			for _, v := range outside(r.bound) {
				if refused(place, v) == "" {
					t.Errorf("%s: %s may be %.20s, which is not within %s", r.doc, place, v, r.bound)
				}
			}
		}
	}
}

// seeDefault compares a default: the parser takes it, and misses the key where it is said to be required.
func seeDefault(t *testing.T, r row, place string) {
	t.Helper()
	if value := spans(r.initial); len(value) == 1 {
		if got := refused(place, value[0]); got != "" {
			t.Errorf("%s: %s may not be its default, %s: %s", r.doc, place, value[0], got)
		}
	}
	parent, at := "", place
	if i := strings.LastIndexByte(place, '.'); i >= 0 {
		parent, at = place[:i], place[i+1:]
	}
	missing := parent != "" && slices.ContainsFunc(mistakes(strings.TrimSuffix(parent, "[]"), emptyAt(parent)), func(m string) bool {
		return strings.HasPrefix(m, strings.ReplaceAll(parent, "[]", "[0]")+"."+at+": missing")
	})
	if missing && !strings.HasPrefix(r.initial, "required") {
		t.Errorf("%s: %s has the default %s, and is missing where it is left out", r.doc, place, r.initial)
	}
}

// A key with its default is the same as none: in a rule that is its list's example, and in a filter.
func TestDefaultsAreAsDocumented(t *testing.T) {
	rows, examples, seen := keyRows(t), map[string]string{}, 0
	for _, r := range rows {
		examples[r.places[0]] = r.example
	}
	for _, r := range rows {
		value := spans(r.initial)
		for _, place := range r.places {
			list, key, inRule := strings.Cut(place, "[].")
			switch {
			case len(value) != 1 || strings.Contains(key, ".") || strings.HasPrefix(place, "resources"):
				continue
			case inRule && !strings.Contains(examples[list], `"`+key+`"`):
				with := strings.Replace(examples[list], "[{", "[{"+`"`+key+`": `+value[0]+", ", 1)
				seeSame(t, place, document(list, examples[list]), document(list, with))
			case !inRule:
				seeSame(t, place, document(parentOf(place), "{}"), document(place, value[0]))
			}
			seen++
		}
	}
	if seen < 20 {
		t.Errorf("only %d defaults", seen)
	}
}

// parentOf is the object that has the key at a place; a key of its own where that is the document.
func parentOf(place string) string {
	parent, _, _ := strings.Cut(place, ".")
	if parent == place {
		return "block"
	}
	return parent
}

// seeSame compares two documents by what is read of them.
func seeSame(t *testing.T, place, without, with string) {
	t.Helper()
	for _, kind := range kinds {
		a, err := config.Parse([]byte(without), kind)
		b, errWith := config.Parse([]byte(with), kind)
		if err == nil && errWith == nil && !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %s is not the same as %s", place, without, with)
		}
	}
}

// emptyAt is an object without keys, in a list where the place is one's element.
func emptyAt(place string) string {
	if strings.HasSuffix(place, "[]") {
		return "[{}]"
	}
	return "{}"
}

// refused is what the filter that has the key, or both, says against a value; "" if there is one that takes it.
func refused(place, value string) string {
	at := strings.ReplaceAll(place, "[]", "[0]")
	var all []string
	for _, kind := range kinds {
		found := mistakesOf(kind, document(place, value))
		if slices.ContainsFunc(found, func(m string) bool { return strings.HasSuffix(m, "filter only") }) {
			continue
		}
		own := slices.DeleteFunc(found, func(m string) bool {
			rest, ok := strings.CutPrefix(m, at)
			return !ok || !strings.HasPrefix(rest, ":") && !strings.HasPrefix(rest, ".") && !strings.HasPrefix(rest, "[")
		})
		if len(own) == 0 {
			return ""
		}
		all = append(all, own...)
	}
	return strings.ReplaceAll(strings.Join(all, "; "), at+": ", "")
}

var (
	between  = regexp.MustCompile(`^(-?[\d,]+) to ([\d,]+)$`)
	atLeast  = regexp.MustCompile(`^≥ (\d+)$`)
	bytesOf  = regexp.MustCompile(`^(?:at most|1 to) ([\d,]+) bytes$`)
	elements = regexp.MustCompile(`^(?:at most|1 to) ([\d,]+) elements$`)
)

func number(s string) int64 {
	n, err := strconv.ParseInt(strings.ReplaceAll(s, ",", ""), 10, 64)
	if err != nil {
		panic(err) // the expressions let nothing else through
	}
	return n
}

// inside are values at the ends of a bound.
func inside(bound string) []string {
	if m := between.FindStringSubmatch(bound); m != nil {
		return []string{fmt.Sprint(number(m[1])), fmt.Sprint(number(m[2]))}
	}
	if m := atLeast.FindStringSubmatch(bound); m != nil {
		return []string{m[1], fmt.Sprint(int64(1)<<53 - 1)}
	}
	if m := bytesOf.FindStringSubmatch(bound); m != nil {
		return []string{fmt.Sprintf("%q", "/"+strings.Repeat("a", int(number(m[1]))-1))}
	}
	return nil
}

// outside are values just beyond the ends of a bound.
func outside(bound string) []string {
	if m := between.FindStringSubmatch(bound); m != nil {
		return []string{fmt.Sprint(number(m[1]) - 1), fmt.Sprint(number(m[2]) + 1)}
	}
	if m := atLeast.FindStringSubmatch(bound); m != nil {
		return []string{fmt.Sprint(number(m[1]) - 1), fmt.Sprint(int64(1) << 53)}
	}
	if m := bytesOf.FindStringSubmatch(bound); m != nil {
		return []string{fmt.Sprintf("%q", "/"+strings.Repeat("a", int(number(m[1]))))}
	}
	if m := elements.FindStringSubmatch(bound); m != nil {
		return []string{"[" + strings.Repeat(`"a",`, int(number(m[1]))) + `"a"]`}
	}
	return nil
}

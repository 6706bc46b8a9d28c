package repocheck

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
)

// documents are the texts that describe the plugins to their users, by their names.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"README.md": read(t, "README.md")}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // no such directory
		}
		if err == nil && strings.HasSuffix(path, ".md") {
			name, _ := filepath.Rel(root, path)
			all[name] = read(t, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// literals are all strings in the production code of these directories, and the names that structs have in JSON.
func literals(t *testing.T, dirs ...string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	collect := func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, _ := strconv.Unquote(lit.Value)
				all[text] = true
				all[reflect.StructTag(text).Get("json")] = true
			}
			return true
		})
		return nil
	}
	for _, dir := range dirs {
		if err := filepath.WalkDir(filepath.Join(root, dir), collect); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// Every name that Envoy's users meet is in a document: metrics, root ids, what access logs print.
func TestEveryNameIsDocumented(t *testing.T) {
	name := regexp.MustCompile(`\bsentinel_[a-z_]+`)
	have := map[string]bool{}
	for text := range literals(t, "shared", "plugins") {
		if found := name.FindString(text); found != "" && strings.HasPrefix(text, found) {
			have[found] = true
		}
	}
	if len(have) < 30 {
		t.Fatalf("only %d names: the test does not see the code", len(have))
	}
	told := map[string]bool{}
	for doc, text := range documents(t) {
		for _, found := range name.FindAllString(text, -1) {
			if told[found] = true; !have[found] {
				t.Errorf("%s names %s, which there is not", doc, found)
			}
		}
	}
	for found := range have {
		if !told[found] {
			t.Errorf("%s is in no document", found)
		}
	}
}

// nobody is a word that is no key and no value of anything.
const nobody = "nobodysword"

// reasons are what the parser says is wrong with the value of a key, in a filter of either kind. The key's place is
// written as in flowRules[].threshold.
func reasons(place, value string) (all []string) {
	doc, steps := value, strings.Split(place, ".")
	for _, step := range slices.Backward(steps) {
		key, isList := strings.CutSuffix(step, "[]")
		if isList {
			doc = "[" + doc + "]"
		}
		doc = `{"` + key + `": ` + doc + `}`
	}
	at := strings.ReplaceAll(place, "[]", "[0]") + ": "
	for _, kind := range []config.Kind{config.KindHTTP, config.KindTCP} {
		_, err := config.Parse([]byte(doc), kind)
		var list config.Errors
		errors.As(err, &list)
		for _, e := range list {
			if reason, ok := strings.CutPrefix(e.Error(), at); ok {
				all = append(all, reason)
			}
		}
	}
	return all
}

func isUnknown(place string) bool {
	return slices.ContainsFunc(reasons(place, "0"), func(reason string) bool { return strings.HasPrefix(reason, "unknown key") })
}

// values are the words that the parser says a key takes; none for a key that takes any.
func values(place string) []string {
	for _, reason := range reasons(place, `"`+nobody+`"`) {
		list, ok := strings.CutSuffix(reason, `, got the string "`+nobody+`"`)
		if words, found := choice(strings.TrimPrefix(list, "must be ")); ok && found {
			return words
		}
	}
	return nil
}

// choice is what there is to choose from in "enforce or shadow" and in "0 (Direct) or 1 (WarmUp)". Other texts are none.
func choice(text string) (words []string, ok bool) {
	word := regexp.MustCompile(`^(?:(\w+)|-?\d+ \((\w+)\))$`)
	named := false
	for one := range strings.SplitSeq(text, " or ") {
		m := word.FindStringSubmatch(one)
		if m == nil {
			return nil, false
		}
		named = named || m[2] != ""
		words = append(words, m[1]+m[2])
	}
	return words, named || len(words) > 1 && words[0] != "true"
}

// accepted asks the parser for the places of all its keys, with the values of each that takes only some. A key is one of
// the words in its code.
func accepted(t *testing.T) map[string][]string {
	t.Helper()
	word := regexp.MustCompile(`^[A-Za-z][A-Za-z_]+$`)
	var words []string
	for text := range literals(t, "shared/config", "shared/rule") {
		if word.MatchString(text) {
			words = append(words, text)
		}
	}
	found := map[string][]string{}
	for within := []string{""}; len(within) > 0; within = within[1:] {
		for _, w := range words {
			place := within[0] + w
			if isUnknown(place) {
				continue
			}
			found[place] = values(place)
			for _, inner := range []string{place + ".", place + "[]."} {
				if isUnknown(inner + nobody) {
					within = append(within, inner)
				}
			}
		}
	}
	return found
}

// row is a line of a table of keys: the first cell names their places, the second has the values.
type row struct {
	doc    string
	places []string
	values []string
}

var span = regexp.MustCompile("`([^`]+)`")

// spans are the parts of a cell that are marked as code.
func spans(cell string) (all []string) {
	for _, m := range span.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

// keyRows are the rows of all tables of keys.
func keyRows(t *testing.T) (rows []row) {
	t.Helper()
	place := regexp.MustCompile(`^[A-Za-z_]+(\[\])?(\.[A-Za-z_]+(\[\])?)*$`)
	for doc, text := range documents(t) {
		inTable := false
		for line := range strings.Lines(text) {
			cells := strings.Split(line, "|")
			if len(cells) < 4 {
				inTable = false
				continue
			}
			if inTable = inTable || strings.TrimSpace(cells[1]) == "key"; !inTable {
				continue
			}
			r := row{doc: doc, places: spans(cells[1]), values: spans(cells[2])}
			r.places = slices.DeleteFunc(r.places, func(p string) bool { return !place.MatchString(p) })
			rows = append(rows, r)
		}
	}
	return rows
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

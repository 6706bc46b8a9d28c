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

// kinds are whose configuration a document may be.
var kinds = []config.Kind{config.KindHTTP, config.KindTCP}

// document has a value at a place, written as in flowRules[].threshold.
func document(place, value string) string {
	for _, step := range slices.Backward(strings.Split(place, ".")) {
		key, isList := strings.CutSuffix(step, "[]")
		if isList {
			value = "[" + value + "]"
		}
		value = `{"` + key + `": ` + value + `}`
	}
	return value
}

// mistakesOf are those that the parser finds in a document, each with its place.
func mistakesOf(kind config.Kind, doc string) (all []string) {
	_, err := config.Parse([]byte(doc), kind)
	var list config.Errors
	errors.As(err, &list)
	for _, e := range list {
		all = append(all, e.Error())
	}
	return all
}

// mistakes are those of a value at a place, in filters of both kinds.
func mistakes(place, value string) (all []string) {
	for _, kind := range kinds {
		all = append(all, mistakesOf(kind, document(place, value))...)
	}
	return all
}

// reasons are what the parser says is wrong with the value of a key.
func reasons(place, value string) (all []string) {
	at := strings.ReplaceAll(place, "[]", "[0]") + ": "
	for _, m := range mistakes(place, value) {
		if reason, ok := strings.CutPrefix(m, at); ok {
			all = append(all, reason)
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
	word := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]+$`)
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
			if strings.HasSuffix(place, "match.not") {
				continue // has the keys of the match that it stands in
			}
			for _, inner := range []string{place + ".", place + "[]."} {
				if isUnknown(inner + nobody) {
					within = append(within, inner)
				}
			}
		}
	}
	return found
}

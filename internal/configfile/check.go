package configfile

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"sentinel-envoy/shared/config"
)

// Mistake is one thing that is wrong in a file, or odd.
type Mistake struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	In      string `json:"in,omitempty"` // whose configuration: a root_id
	Path    string `json:"path,omitempty"`
	Reason  string `json:"reason"`
	Warning bool   `json:"warning,omitempty"`
}

// String is the mistake as compilers write theirs.
func (m Mistake) String() string {
	text := m.File + ":" + strconv.Itoa(m.Line) + ": "
	if m.Warning {
		text += "warning: "
	}
	if m.Path != "" {
		text += m.Path + ": "
	}
	return text + m.Reason
}

// Options say how to read what does not say itself what it is.
type Options struct {
	Kind   config.Kind
	Rules  string // the key of the family whose list a list is; of an object it means that it is a source's
	Format config.Format
}

// Check finds every mistake in a file, and says how many configurations it has.
func Check(file string, text []byte, o Options) (mistakes []Mistake, configurations int) {
	docs, err := Read(text)
	if err != nil {
		return []Mistake{syntax(file, err)}, 0
	}
	for _, d := range docs {
		if d.IsList() || o.Rules != "" {
			mistakes = append(mistakes, d.checkRules(file, o)...)
			configurations++
			continue
		}
		for _, f := range Find(d, o.Kind) {
			mistakes = append(mistakes, f.check(file)...)
			configurations++
		}
	}
	if configurations == 0 {
		mistakes = append(mistakes, Mistake{File: file, Line: 1, Reason: "has no configuration of this plugin: no root_id " +
			"sentinel_http or sentinel_tcp, no WasmPlugin, and no rules"})
	}
	return mistakes, configurations
}

var atLine = regexp.MustCompile(`line (\d+)`)

// syntax is what the reader of YAML says.
func syntax(file string, err error) Mistake {
	m := Mistake{File: file, Line: 1, Reason: err.Error()}
	if found := atLine.FindStringSubmatch(m.Reason); found != nil {
		m.Line, _ = strconv.Atoi(found[1])
	}
	return m
}

func (f *Found) check(file string) []Mistake {
	if f.Problem != "" {
		return []Mistake{{File: file, Line: f.Line(), In: f.Name, Reason: f.Problem}}
	}
	cfg, err := config.Parse(f.JSON(), f.Kind)
	if err != nil {
		return f.tell(file, f.Name, "", err, nil)
	}
	return f.tell(file, f.Name, "", nil, cfg.Warnings)
}

const noFamily = "is a list: say with --rules of which family, as --rules flowRules"

// checkRules reads a document as a source of rules has it.
func (d Document) checkRules(file string, o Options) []Mistake {
	if o.Rules == "" {
		return []Mistake{{File: file, Line: d.Line(), Reason: noFamily}}
	}
	key := o.Rules
	if !d.IsList() {
		key = ""
	}
	// What the resources and origins are, the filter says that has the source: here anything is right.
	cfg, err := config.ParseRules([]config.Document{{Key: key, Format: o.Format, Text: d.JSON()}}, config.KindVM, Lenient())
	prefix, _ := config.RuleKey(key)
	if err != nil {
		return d.tell(file, o.Rules, prefix, err, nil)
	}
	return d.tell(file, o.Rules, prefix, nil, cfg.Warnings)
}

// tell gives mistakes and warnings their lines. key is the key of a list that stands for the document itself.
func (d Document) tell(file, in, key string, err error, warnings []config.Warning) (all []Mistake) {
	var list config.Errors
	if err != nil && !errors.As(err, &list) {
		return []Mistake{{File: file, Line: d.Line(), In: in, Reason: err.Error()}}
	}
	at := func(path string) int {
		if key != "" && len(path) > len(key) && path[:len(key)] == key {
			return d.LineOf(path[len(key):])
		}
		return d.LineOf(path)
	}
	for _, e := range list {
		all = append(all, Mistake{File: file, Line: at(e.Path), In: in, Path: e.Path, Reason: e.Reason})
	}
	for _, w := range warnings {
		all = append(all, Mistake{File: file, Line: at(w.Path), In: in, Path: w.Path, Reason: w.Reason, Warning: true})
	}
	return all
}

// Mistakes are those of an error of config's in a document.
func (d Document) Mistakes(file, key string, err error) []Mistake {
	return d.tell(file, "", key, err, nil)
}

// Error puts mistakes on a line each.
func Error(all []Mistake) error {
	text := ""
	for i, m := range all {
		if i > 0 {
			text += "\n"
		}
		text += m.String()
	}
	return fmt.Errorf("%s", text)
}

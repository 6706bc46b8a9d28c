package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sentinel-envoy/internal/configfile"
	"sentinel-envoy/shared/config"
)

// Source reads a data source as a configuration has it, in YAML. Its cluster may be left out: that is Envoy's name of the server.
func Source(text string) (config.DataSource, error) {
	docs, err := configfile.Read([]byte(text))
	if err != nil || len(docs) != 1 {
		return config.DataSource{}, fmt.Errorf("%q is no data source such as {type: etcd, key: /sentinel/shop}", text)
	}
	var keys map[string]any
	if err := json.Unmarshal(docs[0].JSON(), &keys); err != nil {
		return config.DataSource{}, fmt.Errorf("%q is no data source such as {type: etcd, key: /sentinel/shop}", text)
	}
	if _, has := keys["cluster"]; !has {
		keys["cluster"] = "server"
	}
	json, err := json.Marshal(map[string]any{"datasource": []any{keys}})
	if err != nil {
		return config.DataSource{}, err
	}
	cfg, err := config.Parse(json, config.KindHTTP)
	if err != nil {
		return config.DataSource{}, errors.New(strings.ReplaceAll(err.Error(), "datasource[0].", "source: "))
	}
	return cfg.Sources[0], nil
}

// Document makes of a configuration what its data source would have: its rules as they stand there, a line each. Beside are the keys
// that no document has, and that stay in the filter's configuration. The error tells every mistake, a line each.
func Document(file string, text []byte, s config.DataSource) (doc []byte, beside []string, rules int, err error) {
	docs, err := configfile.Read(text)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("%s: %w", file, err)
	}
	var found []configfile.Found
	for _, d := range docs {
		found = append(found, configfile.Find(d, config.KindHTTP)...)
	}
	if len(found) != 1 {
		return nil, nil, 0, fmt.Errorf("%s has %d configurations: the rules of one are written", file, len(found))
	}
	var lists []string
	problems := []configfile.Mistake{}
	found[0].Members(func(key string, value configfile.Document) {
		own, isList := config.RuleKey(key)
		switch {
		case !isList:
			beside = append(beside, key)
		case s.Rules != "" && own != s.Rules:
			problems = append(problems, configfile.Mistake{File: file, Line: value.Line(), Path: key,
				Reason: "the source has " + s.Rules + " only: write these to another"})
		case s.Rules != "":
			lists = append(lists, listOf(value, "", &rules))
		default:
			lists = append(lists, fmt.Sprintf("  %q: %s", key, listOf(value, "  ", &rules)))
		}
	})
	if len(lists) == 0 && len(problems) == 0 {
		problems = append(problems, configfile.Mistake{File: file, Line: found[0].Line(), Reason: "has no rules: to lift all limits write empty lists"})
	}
	if len(problems) > 0 {
		return nil, nil, 0, configfile.Error(problems)
	}
	doc = []byte("{\n" + strings.Join(lists, ",\n") + "\n}\n")
	if s.Rules != "" {
		doc = []byte(lists[0] + "\n")
	}
	_, err = config.ParseRules([]config.Document{{Key: s.Rules, Format: s.Format, Text: doc}}, config.KindVM, configfile.Lenient())
	if err != nil {
		return nil, nil, 0, configfile.Error(found[0].Mistakes(file, "", err))
	}
	return doc, beside, rules, nil
}

// listOf is a list in JSON, its elements on lines of their own.
func listOf(d configfile.Document, indent string, n *int) string {
	var lines []string
	for _, item := range d.Items() {
		lines = append(lines, "\n"+indent+"  "+string(item.JSON()))
		*n++
	}
	if len(lines) == 0 {
		return "[]"
	}
	return "[" + strings.Join(lines, ",") + "\n" + indent + "]"
}

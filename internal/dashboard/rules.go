package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sentinel-envoy/internal/javarules"
	"sentinel-envoy/internal/rulestore"
	"sentinel-envoy/shared/config"
)

// document is what a source has, cut into its rules.
type document struct {
	source  config.DataSource
	store   *rulestore.Store // nil where nobody has said how to reach it
	text    []byte
	version string
	rules   []written
}

// written is a rule of a document as it stands there.
type written struct {
	key  string // of its list
	text json.RawMessage
	ids  []string // of what the filter makes of it
	view
}

// view is a rule in Java Sentinel's words.
type view struct {
	typ  javarules.Type
	java javarules.Object // nil where those cannot say it
	id   string           // that it was given, "" where its content is its name
}

// book has all rules of an Envoy: of its filters' configurations, and of the documents that they ask for.
type book struct {
	own       []view
	ownIDs    []string
	documents []*document
	filters   []filter
}

// open reads what an Envoy's filters have, and the documents that stores are known for by cluster.
func open(ctx context.Context, filters []filter, stores func(config.DataSource) (*rulestore.Store, error)) (*book, error) {
	b := &book{filters: filters}
	seen := map[string]bool{}
	for _, f := range filters {
		for _, r := range f.cfg.Rules {
			typ, java, _ := javarules.Of(r, f.cfg)
			one := view{typ, java, r.For().ID}
			if at := fmt.Sprint(typ, one.id); !seen[at] {
				seen[at] = true
				b.own, b.ownIDs = append(b.own, one), append(b.ownIDs, one.id)
			}
		}
		for _, s := range f.cfg.Sources {
			s.Required = false // it tells no sources apart
			if slices.ContainsFunc(b.documents, func(d *document) bool { return d.source == s }) {
				continue
			}
			d := &document{source: s}
			var err error
			if d.store, err = stores(s); err != nil {
				return nil, err
			}
			if err := d.read(ctx, f.cfg); err != nil {
				return nil, err
			}
			b.documents = append(b.documents, d)
		}
	}
	return b, nil
}

// read reads a document and its rules, for a filter. One that is not there has none.
func (d *document) read(ctx context.Context, filter *config.Config) error {
	if d.store == nil {
		return nil
	}
	text, version, err := d.store.Read(ctx)
	d.version = version
	if errors.Is(err, rulestore.ErrAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	d.text = text
	lists, err := d.lists()
	if err != nil {
		return fmt.Errorf("%s: %w", d.store, err)
	}
	for _, key := range slices.Sorted(maps.Keys(lists)) {
		var list []json.RawMessage
		if javarules.TypeOf(key) == "" || json.Unmarshal(lists[key], &list) != nil {
			continue
		}
		for _, one := range list {
			d.rules = append(d.rules, d.split(d.rule(key, one, filter))...)
		}
	}
	return nil
}

// lists are the document's lists by key.
func (d *document) lists() (map[string]json.RawMessage, error) {
	lists := map[string]json.RawMessage{}
	text := bytes.TrimSpace(d.text)
	if len(text) == 0 {
		return lists, nil
	}
	if d.source.Rules != "" && text[0] == '[' {
		return map[string]json.RawMessage{d.source.Rules: text}, nil
	}
	if err := json.Unmarshal(text, &lists); err != nil {
		return nil, fmt.Errorf("no document of rules: %w", err)
	}
	return lists, nil
}

// rule sees a rule of a list as Java Sentinel has it: one in its words is completed, one in ours is translated.
func (d *document) rule(key string, text json.RawMessage, filter *config.Config) written {
	w := written{key: key, text: text, view: view{typ: javarules.TypeOf(key)}}
	read := func(format config.Format) *config.Config {
		bare := *filter
		bare.Rules = nil
		list := slices.Concat([]byte("["), text, []byte("]"))
		cfg, err := config.ParseRules([]config.Document{{Key: key, Format: format, Text: list}}, config.KindVM, &bare)
		if err != nil {
			return nil
		}
		return cfg
	}
	cfg := read(d.source.Format)
	if cfg == nil {
		return w // the filters refuse it, and so the document
	}
	for _, r := range cfg.Rules {
		w.ids = append(w.ids, r.For().ID)
	}
	var object javarules.Object
	if json.Unmarshal(text, &object) != nil {
		return w
	}
	w.id, _ = object["id"].(string)
	if d.source.Format == config.Java || read(config.Sentinel) == nil {
		w.java = javarules.Complete(w.typ, object)
	} else if len(cfg.Rules) == 1 {
		_, w.java, _ = javarules.Of(cfg.Rules[0], filter)
	}
	return w
}

// split makes of a system rule in Java Sentinel's words one for each figure, as it is shown, and may be changed.
func (d *document) split(w written) []written {
	if w.typ != javarules.System || w.java == nil {
		return []written{w}
	}
	figures := javarules.Figures(w.java)
	if len(figures) < 2 {
		return []written{w}
	}
	var all []written
	for i, one := range figures {
		part := w
		part.java = one
		part.text, _ = json.Marshal(one) // it came from JSON
		if i < len(w.ids) {
			part.ids = w.ids[i : i+1]
		}
		all = append(all, part)
	}
	return all
}

// overridden tells whether a document has a rule that takes the place of a filter's own.
func (b *book) overridden(id string) bool {
	for _, d := range b.documents {
		for _, w := range d.rules {
			if slices.Contains(w.ids, id) {
				return true
			}
		}
	}
	return false
}

// rules are those of a type in Java Sentinel's words: of the documents, and then of the filters themselves. It says how many
// more there are that those words cannot say.
func (b *book) rules(t javarules.Type) (all []javarules.Object, untold int) {
	add := func(v view) {
		switch {
		case v.typ != t:
		case v.java == nil:
			untold++
		default:
			all = append(all, v.java)
		}
	}
	all = []javarules.Object{}
	for _, d := range b.documents {
		for _, w := range d.rules {
			add(w.view)
		}
	}
	for _, v := range b.own {
		if !b.overridden(v.id) {
			add(v)
		}
	}
	return all, untold
}

// errReadOnly means that rules cannot be set.
var errReadOnly = errors.New("read only: no filter has a datasource for these rules whose server was named with --server")

// target is the document that new rules of a type belong into.
func (b *book) target(t javarules.Type) *document {
	fits := func(list bool) int {
		return slices.IndexFunc(b.documents, func(d *document) bool {
			return d.store != nil && (list && d.source.Rules == t.Key() || !list && d.source.Rules == "")
		})
	}
	for _, list := range []bool{true, false} {
		if i := fits(list); i >= 0 {
			return b.documents[i]
		}
	}
	return nil
}

// set makes the rules of a type those in data, a list in Java Sentinel's words, as far as a dashboard can see them. What stays as it
// was stays in its words, in its place and with its name. What the dashboard cannot see is not touched.
func (b *book) set(ctx context.Context, t javarules.Type, data []byte) error {
	var wanted []javarules.Object
	if err := json.Unmarshal(data, &wanted); err != nil || wanted == nil {
		return errors.New("data must be a list of rules")
	}
	target := b.target(t)
	if target == nil {
		return errReadOnly
	}
	for i := range wanted {
		wanted[i] = javarules.Complete(t, wanted[i])
	}
	m := merge{typ: t, wanted: wanted, taken: make([]bool, len(wanted))}
	m.unchanged(b)
	for i, one := range m.wanted {
		if m.taken[i] {
			continue
		}
		if err := b.checkOne(target, t, one); err != nil {
			return err
		}
	}
	m.changed(b)
	if m.removed != "" {
		return errors.New(m.removed)
	}
	for i, one := range m.wanted {
		if !m.taken[i] {
			text, err := json.Marshal(one)
			if err != nil {
				return err
			}
			target.rules = append(target.rules, written{key: target.keyFor(t), text: text})
			m.touched = append(m.touched, target)
		}
	}
	return b.write(ctx, m.touched)
}

// keyFor is the key of the list that a rule of Java's belongs into: the one that the document has already.
func (d *document) keyFor(t javarules.Type) string {
	for _, w := range d.rules {
		if own, _ := config.RuleKey(w.key); own == t.Key() {
			return w.key
		}
	}
	return t.Key()
}

// merge finds out what a list of wanted rules changes.
type merge struct {
	typ     javarules.Type
	wanted  []javarules.Object
	taken   []bool // of wanted, those that have a place
	touched []*document
	kept    map[*written]bool
	keptOwn map[int]bool
	removed string // why it cannot be done
}

// take gives a place to the first wanted rule that fits and has none.
func (m *merge) take(fits func(javarules.Object) bool) (javarules.Object, bool) {
	for i, one := range m.wanted {
		if !m.taken[i] && fits(one) {
			m.taken[i] = true
			return one, true
		}
	}
	return nil, false
}

// unchanged gives a place to what is wanted as it is.
func (m *merge) unchanged(b *book) {
	m.kept, m.keptOwn = map[*written]bool{}, map[int]bool{}
	for _, d := range b.documents {
		for i := range d.rules {
			w := &d.rules[i]
			if w.typ != m.typ || w.java == nil {
				m.kept[w] = true
				continue
			}
			_, m.kept[w] = m.take(func(o javarules.Object) bool { return javarules.Same(o, w.java) })
		}
	}
	for i, v := range b.own {
		if v.typ != m.typ || v.java == nil || b.overridden(v.id) {
			m.keptOwn[i] = true
			continue
		}
		_, m.keptOwn[i] = m.take(func(o javarules.Object) bool { return javarules.Same(o, v.java) })
	}
}

// alike tells whether a rule may be what became of another: it is about the same.
func alike(a, b javarules.Object) bool {
	for _, key := range []string{"resource", "limitApp", "regex", "paramIdx"} {
		if a[key] != b[key] {
			return false
		}
	}
	return true
}

// changed gives a place to what takes that of a rule which is not wanted any more; what remains of those is removed.
func (m *merge) changed(b *book) {
	for _, d := range b.documents {
		var rest []written
		for i := range d.rules {
			w := &d.rules[i]
			if m.kept[w] {
				rest = append(rest, *w)
				continue
			}
			if d.store == nil {
				m.removed = errReadOnly.Error()
				return
			}
			m.touched = append(m.touched, d)
			if one, ok := m.take(func(o javarules.Object) bool { return alike(o, w.java) }); ok {
				rest = append(rest, d.replaced(*w, one))
			}
		}
		d.rules = rest
	}
	target := b.target(m.typ)
	for i, v := range b.own {
		if m.keptOwn[i] {
			continue
		}
		one, ok := m.take(func(o javarules.Object) bool { return alike(o, v.java) })
		if !ok {
			m.removed = fmt.Sprintf("rule %q is in the filter's own configuration, and cannot be removed from here", v.id)
			return
		}
		m.touched = append(m.touched, target)
		w := target.replaced(written{key: target.keyFor(m.typ), view: v}, one)
		target.rules = append(target.rules, w)
	}
}

// replaced is what a rule becomes, in Java Sentinel's words, with the name that the rule had.
func (d *document) replaced(was written, by javarules.Object) written {
	if was.id != "" {
		by = maps.Clone(by)
		by["id"] = was.id
	}
	was.text, _ = json.Marshal(by) // it came from JSON
	if own, _ := config.RuleKey(was.key); own != was.typ.Key() {
		was.key = was.typ.Key() // of a limit on threads, which is a flow rule in Java Sentinel's words
	}
	return was
}

// write checks and writes the documents that have changed.
func (b *book) write(ctx context.Context, touched []*document) error {
	done := map[*document]bool{}
	for _, d := range touched {
		text, err := d.compose()
		if err != nil {
			return err
		}
		d.text = text
	}
	for _, d := range touched {
		if done[d] {
			continue
		}
		done[d] = true
		for _, f := range b.asking(d) {
			if err := check(d, f); err != nil {
				return err
			}
		}
		err := d.store.Write(ctx, d.text, d.version)
		if errors.Is(err, rulestore.ErrChanged) {
			return fmt.Errorf("%w: load the rules again", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// check says why a filter would not take a document.
func check(d *document, f filter) error {
	key := d.source.Rules
	if bytes.HasPrefix(d.text, []byte("{")) {
		key = ""
	}
	doc := config.Document{Key: key, Format: d.source.Format, Text: d.text}
	_, err := config.ParseRules([]config.Document{doc}, f.kind, f.cfg)
	return err
}

// checkOne says why the filters that ask for a document would not take a rule in Java Sentinel's words, and of what resource it is.
func (b *book) checkOne(d *document, t javarules.Type, one javarules.Object) error {
	text, err := json.Marshal([]any{one})
	if err != nil {
		return err
	}
	for _, f := range b.asking(d) {
		bare := *f.cfg
		bare.Rules = nil
		_, err := config.ParseRules([]config.Document{{Key: t.Key(), Format: config.Java, Text: text}}, f.kind, &bare)
		if err != nil {
			reason := strings.ReplaceAll(err.Error(), t.Key()+"[0].", "")
			if one["resource"] == nil {
				return fmt.Errorf("%s rule: %s", t, reason)
			}
			return fmt.Errorf("rule of resource %q: %s", fmt.Sprint(one["resource"]), reason)
		}
	}
	return nil
}

// asking are the filters that ask for a document.
func (b *book) asking(d *document) (all []filter) {
	for _, f := range b.filters {
		if slices.ContainsFunc(f.cfg.Sources, func(s config.DataSource) bool { return s.Origin == d.source.Origin }) {
			all = append(all, f)
		}
	}
	return all
}

// compose writes the document anew: each rule as it stood, on a line of its own.
func (d *document) compose() ([]byte, error) {
	lists, err := d.lists()
	if err != nil {
		return nil, err
	}
	byKey := map[string][]string{}
	for _, w := range d.rules {
		var one bytes.Buffer
		if err := json.Compact(&one, w.text); err != nil {
			return nil, err
		}
		byKey[w.key] = append(byKey[w.key], one.String())
	}
	list := func(key, indent string) string {
		if len(byKey[key]) == 0 {
			return "[]"
		}
		return "[\n" + indent + strings.Join(byKey[key], ",\n"+indent) + "\n]"
	}
	if d.source.Rules != "" && (len(d.text) == 0 || bytes.TrimSpace(d.text)[0] == '[') {
		return []byte(list(d.source.Rules, "  ") + "\n"), nil
	}
	for key := range byKey {
		lists[key] = nil
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(lists)) {
		value := string(lists[key])
		if javarules.TypeOf(key) != "" {
			value = strings.ReplaceAll(list(key, "    "), "\n]", "\n  ]")
		}
		parts = append(parts, fmt.Sprintf("  %q: %s", key, value))
	}
	return []byte("{\n" + strings.Join(parts, ",\n") + "\n}\n"), nil
}

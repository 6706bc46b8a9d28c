package top

import (
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// The tables, in the order in which tab goes through them.
const (
	ofResources = iota
	ofRules
	ofWorkers
	tables
)

// screen is what the terminal shows, and what keys have made of it.
type screen struct {
	source  *source
	figures Figures
	err     error
	table   int
	views   [tables]view
	typing  bool // a filter
	scroll  int
	height  int
}

// news are figures that have come, or why none have.
type news struct {
	figures Figures
	err     error
}

// Init implements tea.Model.
func (s screen) Init() tea.Cmd { return s.ask }

// ask reads the admin page once.
func (s screen) ask() tea.Msg {
	figures, err := s.source.next()
	return news{figures, err}
}

// Update implements tea.Model.
func (s screen) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch m := message.(type) {
	case news:
		if s.err = m.err; m.err == nil {
			s.figures = m.figures
		}
		return s, tea.Tick(s.source.every, func(time.Time) tea.Msg { return s.ask() })
	case tea.WindowSizeMsg:
		s.height = m.Height
	case tea.KeyMsg:
		return s.key(m)
	}
	return s, nil
}

// key takes a key; those that come fast, or pasted, come as one.
func (s screen) key(m tea.KeyMsg) (tea.Model, tea.Cmd) {
	switch {
	case s.typing:
		return s.typed(m), nil
	case m.Type != tea.KeyRunes || len(m.Runes) < 2:
		return s.pressed(m.String())
	}
	var next tea.Model = s
	for _, r := range m.Runes {
		var do tea.Cmd
		if next, do = next.(screen).key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}}); do != nil {
			return next, do
		}
	}
	return next, nil
}

// pressed does what a key stands for.
func (s screen) pressed(key string) (tea.Model, tea.Cmd) {
	v := &s.views[s.table]
	switch key {
	case "q", "ctrl+c":
		return s, tea.Quit
	case "tab":
		s.table, s.scroll = (s.table+1)%tables, 0
	case "right", "s":
		v.sort = (v.sort + 1) % s.columns()
	case "left":
		v.sort = (v.sort + s.columns() - 1) % s.columns()
	case "r":
		v.reverse = !v.reverse
	case "/":
		s.typing, v.filter, s.scroll = true, "", 0
	case "esc":
		v.filter = ""
	case "down", "j":
		s.scroll++
	case "up", "k":
		s.scroll = max(s.scroll-1, 0)
	}
	return s, nil
}

// typed takes a key for the filter.
func (s screen) typed(key tea.KeyMsg) screen {
	v := &s.views[s.table]
	switch key.Type {
	case tea.KeyEnter:
		s.typing = false
	case tea.KeyEsc, tea.KeyCtrlC:
		s.typing, v.filter = false, ""
	case tea.KeyBackspace:
		if r := []rune(v.filter); len(r) > 0 {
			v.filter = string(r[:len(r)-1])
		}
	case tea.KeyRunes, tea.KeySpace:
		v.filter += string(key.Runes)
	}
	return s
}

func (s screen) columns() int {
	return [tables]int{len(resourceColumns), len(ruleColumns), len(workerColumns)}[s.table]
}

// View implements tea.Model.
func (s screen) View() string {
	head := []string{s.source.admin.Addr() + "  " + s.figures.Process.head(), s.footer()}
	all := tableOf(s.figures, s.table, s.views[s.table])
	body := all[1:]
	scroll := min(s.scroll, max(len(body)-1, 0))
	body = body[scroll:]
	if room := s.height - len(head) - 1; s.height > 0 && len(body) > max(room, 1) {
		body = body[:max(room, 1)]
	}
	return strings.Join(append(append(head, all[0]), body...), "\n")
}

// tableOf are the lines of one of the tables.
func tableOf(f Figures, table int, v view) []string {
	switch table {
	case ofRules:
		return lines(f.Rules, ruleColumns, v)
	case ofWorkers:
		return lines(f.Workers, workerColumns, v)
	}
	return lines(f.Resources, resourceColumns, v)
}

// footer says what keys do, or what goes wrong.
func (s screen) footer() string {
	switch filter := s.views[s.table].filter; {
	case s.err != nil:
		return "no answer: " + s.err.Error()
	case s.typing:
		return "filter: " + filter + "▏"
	case filter != "":
		return "filter: " + filter + "  (esc ends it)"
	}
	return "tab resources/rules/workers  ←→ sort  r reverse  / filter  ↑↓ scroll  q quit"
}

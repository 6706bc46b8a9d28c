package top

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"sentinel-envoy/internal/envoytest"
)

const usage = `Usage: sentinel top [flags]

Shows live what the filters of an Envoy do: resources and rules, from its admin page.

  sentinel top -admin 127.0.0.1:8001
  sentinel top -once -filter orders          one picture for a script; with -json as JSON

Flags:
`

// source is where figures come from.
type source struct {
	ctx    context.Context
	admin  *envoytest.Admin
	every  time.Duration
	before reading
}

// next reads the admin page, and compares with the time before: rates are 0 the first time.
func (s *source) next() (Figures, error) {
	samples, err := s.admin.Prometheus(s.ctx)
	if err != nil {
		return Figures{}, err
	}
	now := read(samples, time.Now())
	if len(now.values) == 0 {
		return Figures{}, errors.New("the admin page has no metrics of Sentinel's")
	}
	before := s.before
	if s.before = now; before.at.IsZero() {
		before = now
	}
	return now.figures(before), nil
}

// Main is the command "top": args are its arguments without the command's name. It runs until the user quits or ctx ends. It
// returns the exit code: 0, 1 when the admin page does not answer, 2 for flags that are wrong.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("top", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage); flags.PrintDefaults() }
	admin := flags.String("admin", "127.0.0.1:8001", "the admin page's `host:port`")
	every := flags.Duration("interval", time.Second, "how often to look")
	once := flags.Bool("once", false, "print the figures of one interval, and end")
	asJSON := flags.Bool("json", false, "with -once: as JSON")
	filter := flags.String("filter", "", "only resources and rules whose names contain this `text`")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0 || *every < 100*time.Millisecond || *asJSON && !*once:
		fmt.Fprintln(stderr, "top: no arguments, an interval of at least 100ms, and -json only with -once")
		return 2
	}
	s := &source{ctx: ctx, admin: envoytest.NewAdmin(*admin), every: *every}
	v := view{filter: *filter}
	err := show(s, v, stdout, *once, *asJSON)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(stderr, "top:", err)
		return 1
	}
	return 0
}

// show shows the figures once or until the user quits.
func show(s *source, v view, out io.Writer, once, asJSON bool) error {
	if once {
		return printOnce(s, v, out, asJSON)
	}
	shown := screen{source: s, views: [tables]view{v, v, v}}
	_, err := tea.NewProgram(shown, tea.WithContext(s.ctx), tea.WithAltScreen(), tea.WithOutput(out)).Run()
	return err
}

// printOnce prints all tables, with the rates of one interval.
func printOnce(s *source, v view, out io.Writer, asJSON bool) error {
	if _, err := s.next(); err != nil {
		return err
	}
	select {
	case <-s.ctx.Done():
		return nil
	case <-time.After(s.every):
	}
	f, err := s.next()
	if err != nil {
		return err
	}
	if asJSON {
		f.Resources, f.Rules = only(f.Resources, resourceColumns, v.filter), only(f.Rules, ruleColumns, v.filter)
		f.Workers = only(f.Workers, workerColumns, v.filter)
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(f)
	}
	parts := []string{f.Process.head()}
	for table := range tables {
		parts = append(parts, strings.Join(tableOf(f, table, v), "\n"))
	}
	_, err = fmt.Fprintln(out, strings.Join(parts, "\n\n"))
	return err
}

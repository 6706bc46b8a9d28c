package quickstart

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	func_e "github.com/tetratelabs/func-e"
	"github.com/tetratelabs/func-e/api"
	"github.com/tetratelabs/func-e/experimental/admin"
)

// Envoy is how an Envoy is run in the foreground.
type Envoy struct {
	Binary      string
	Bootstrap   []byte // with an admin interface
	Dir         string // takes the bootstrap and func-e's state; the caller removes it
	Concurrency int    // worker threads
	LogLevel    string // level[,component:level...]
	Stdout, Log io.Writer
	// Ready is called once Envoy's admin interface says so, but not after the end of Run's context or of Envoy.
	Ready func()
}

// Run runs Envoy through func-e until ctx or Envoy ends. It returns nil if ctx ended. func-e kills Envoy then; on Linux the
// kernel also does should we be killed. The error has the last lines of Envoy's log that say what went wrong.
func (e Envoy) Run(ctx context.Context) error {
	config := filepath.Join(e.Dir, "envoy.yaml")
	if err := os.WriteFile(config, e.Bootstrap, 0o600); err != nil {
		return err
	}
	level, components, _ := strings.Cut(e.LogLevel, ",")
	args := []string{
		"--config-path", config,
		"--concurrency", strconv.Itoa(e.Concurrency),
		"--log-level", level,
		"--disable-hot-restart", // or a second Envoy on this machine would collide with it
	}
	if components != "" {
		args = append(args, "--component-log-level", components)
	}
	log := &logWatch{to: e.Log}
	err := func_e.Run(ctx, args,
		api.EnvoyPath(e.Binary), api.HomeDir(filepath.Join(e.Dir, "func-e")), api.Out(io.Discard),
		api.EnvoyOut(e.Stdout), api.EnvoyErr(log),
		admin.WithStartupHook(func(ctx context.Context, _ admin.AdminClient, _ string) error {
			if ctx.Err() == nil { // func-e comes here also when it gives up waiting, because Envoy ends
				e.Ready()
			}
			return nil
		}))
	if err == nil || ctx.Err() != nil {
		return nil
	}
	if len(log.kept) > 0 {
		return fmt.Errorf("running Envoy: %w; it had said:\n%s", err, strings.Join(log.kept, "\n"))
	}
	return fmt.Errorf("running Envoy: %w", err)
}

// keptProblems bounds how many lines a logWatch keeps, and keptBytes how much of each.
const (
	keptProblems = 5
	keptBytes    = 2000
)

// A logWatch passes Envoy's log on and keeps the last lines that say what went wrong.
type logWatch struct {
	to      io.Writer
	partial []byte // the line that has begun
	kept    []string
}

func (w *logWatch) Write(p []byte) (int, error) {
	rest := p
	for {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if room := keptBytes - len(w.partial); room > 0 {
			w.partial = append(w.partial, line[:min(len(line), room)]...)
		}
		if !whole {
			break
		}
		w.keep(string(w.partial))
		w.partial, rest = w.partial[:0], after
	}
	return w.to.Write(p)
}

func (w *logWatch) keep(line string) {
	isProblem := strings.Contains(line, "[critical]") || strings.Contains(line, "[error]") || strings.HasPrefix(line, "error")
	if !isProblem {
		return
	}
	if len(w.kept) == keptProblems {
		w.kept = w.kept[1:]
	}
	w.kept = append(w.kept, line)
}

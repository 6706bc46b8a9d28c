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

// runEnvoy runs Envoy through func-e until ctx ends or Envoy does, and calls ready once Envoy's admin interface says so, but
// not after either's end. dir takes the rendered configuration and func-e's state; the caller removes it.
//
// It returns nil if ctx ended. func-e kills Envoy then; on Linux the kernel also does should we be killed.
func runEnvoy(ctx context.Context, s settings, envoy, dir string, rendered []byte, stdout, stderr io.Writer, ready func()) error {
	config := filepath.Join(dir, "envoy.yaml")
	if err := os.WriteFile(config, rendered, 0o600); err != nil {
		return err
	}
	level, components, _ := strings.Cut(s.logLevel, ",")
	args := []string{
		"--config-path", config,
		"--concurrency", strconv.Itoa(s.concurrency),
		"--log-level", level,
		"--disable-hot-restart", // or a second Envoy on this machine would collide with it
	}
	if components != "" {
		args = append(args, "--component-log-level", components)
	}
	log := &logWatch{to: stderr}
	err := func_e.Run(ctx, args,
		api.EnvoyPath(envoy), api.HomeDir(filepath.Join(dir, "func-e")), api.Out(io.Discard),
		api.EnvoyOut(stdout), api.EnvoyErr(log),
		admin.WithStartupHook(func(ctx context.Context, _ admin.AdminClient, _ string) error {
			if ctx.Err() == nil { // func-e comes here also when it gives up waiting, because Envoy ends
				ready()
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

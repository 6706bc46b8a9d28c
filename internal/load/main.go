package load

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Exit codes of Main.
const (
	exitOK          = 0
	exitNothingSent = 1
	exitUsage       = 2
)

const usage = `Usage: sentinel load -q RATE -p PORT [flags]

Offers RATE requests a second to a port of this machine; says each second, and at the end, how many passed, were
blocked by a rate limit, or failed. Ctrl-C ends it early.

  sentinel load -q 100 -u some-test -p 8099             HTTP/1.1
  sentinel load -q 100 -u some-test -p 8099 -proto h2c  HTTP/2 without TLS
  sentinel load -q 100 -u some-test -p 18000 -tcp       a new TCP connection for each request

Flags:
`

// Main is the command "load": args are its arguments without the command's name. It runs until the load is done or ctx
// ends, which the caller ties to Ctrl-C. It returns the exit code: 0, 1 when no connection could be opened, 2 for flags
// that are wrong.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, asJSON, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "load: %v\n", err)
		return exitUsage
	}
	o = o.withDefaults()
	if _, err := o.target(); err != nil {
		fmt.Fprintf(stderr, "load: %v\n", err)
		return exitUsage
	}
	if !asJSON {
		fmt.Fprintln(stdout, describe(o))
		o.OnSecond = func(s Second) { fmt.Fprintln(stdout, s) }
	}
	s, err := Run(ctx, o)
	if asJSON {
		writeJSON(stdout, s)
	} else {
		fmt.Fprint(stdout, s)
	}
	if err != nil {
		fmt.Fprintf(stderr, "load: %v\n", err)
		return exitNothingSent
	}
	return exitOK
}

// parseFlags returns the options of args; the flag package itself has written what is wrong with a single flag.
func parseFlags(args []string, stderr io.Writer) (o Options, asJSON bool, err error) {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(stderr, usage)
		fs.PrintDefaults()
	}
	o.Header = http.Header{}
	fs.Float64Var(&o.QPS, "q", 0, "`requests` per second, required; 0: as fast as the connections allow")
	fs.StringVar(&o.Path, "u", "", "URL `path`, with or without leading slash; with -tcp and no -u nothing is sent")
	fs.IntVar(&o.Port, "p", 0, "`port`, required")
	fs.StringVar(&o.Host, "host", "127.0.0.1", "loopback `address`; others are refused, so that a typing error floods nobody else")
	fs.DurationVar(&o.Duration, "d", 10*time.Second, "`duration` of the run, at most 1h")
	fs.Uint64Var(&o.Requests, "n", 0, "end after that many `requests`; 0: no limit")
	fs.IntVar(&o.Connections, "c", 8, "number of `connections`")
	fs.IntVar(&o.Pipeline, "pipeline", 1, "`requests` outstanding on one connection (http1: pipelined, with Envoy at most 2; h2c: streams)")
	fs.DurationVar(&o.Timeout, "timeout", 10*time.Second, "`time` a request may take")
	fs.StringVar(&o.Method, "m", http.MethodGet, "HTTP `method`")
	fs.Func("H", "request `header` \"Name: value\"; may be repeated", func(s string) error { return addHeader(o.Header, s) })
	fs.StringVar((*string)(&o.Proto), "proto", string(HTTP1), "`protocol`: http1, h2c or tcp")
	tcp := fs.Bool("tcp", false, "short for -proto tcp")
	fs.StringVar(&o.BlockMessage, "block-message", "", "with -tcp: a connection whose data starts with this `text` was blocked")
	fs.BoolVar(&asJSON, "json", false, "write only a summary, as JSON")

	if err := fs.Parse(args); err != nil {
		return o, false, err
	}
	set := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	switch {
	case fs.NArg() > 0:
		return o, false, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case !set["q"]:
		return o, false, errors.New("-q is required: requests per second")
	case !set["p"]:
		return o, false, errors.New("-p is required: port")
	case *tcp && set["proto"] && o.Proto != TCP:
		return o, false, fmt.Errorf("-tcp contradicts -proto %s", o.Proto)
	}
	for _, name := range []string{"d", "c", "pipeline", "timeout"} {
		// Run takes a zero for the default; written down it is a mistake.
		if set[name] && (fs.Lookup(name).Value.String() == "0" || fs.Lookup(name).Value.String() == "0s") {
			return o, false, fmt.Errorf("-%s must be above 0", name)
		}
	}
	if *tcp {
		o.Proto = TCP
	}
	return o, asJSON, nil
}

func addHeader(h http.Header, line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return errors.New(`must be "Name: value"`)
	}
	h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	return nil
}

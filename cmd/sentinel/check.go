package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"sentinel-envoy/internal/configfile"
	"sentinel-envoy/shared/config"
)

// stdin is the name of a file that stands for standard input.
const stdin = "-"

func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	if name == stdin {
		return io.ReadAll(cmd.InOrStdin())
	}
	return os.ReadFile(name)
}

// outputFlag adds -o, which is text or json.
func outputFlag(cmd *cobra.Command, dst *string) {
	cmd.Flags().VarP(choice(dst, "text", "json"), "output", "o", "text or json")
	complete(cmd, "output", "text", "json")
}

// complete offers words for a flag's value to the shell.
func complete(cmd *cobra.Command, flag string, words ...string) {
	// It fails only for a flag that there is not.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// kindFlag adds the flag that says whose a configuration is that stands alone.
func kindFlag(cmd *cobra.Command, dst *string) {
	cmd.Flags().Var(choice(dst, "http", "tcp", "vm"), "kind",
		"whose configuration a file is that does not say so: http, tcp or vm")
	complete(cmd, "kind", "http", "tcp", "vm")
}

var kinds = map[string]config.Kind{"http": config.KindHTTP, "tcp": config.KindTCP, "vm": config.KindVM}

var formats = map[string]config.Format{"guess": config.Guess, "sentinel": config.Sentinel, "java": config.Java}

func checkCommand() *cobra.Command {
	var output, kind, rules, format string
	cmd := &cobra.Command{
		Use:   "check FILE…",
		Short: "say every mistake in configurations, with file and line",
		Long: `Say every mistake in configurations, with file and line.

A file is an Envoy bootstrap or any part of one, an EnvoyFilter, a WasmPlugin, a plugin's configuration alone, or with
--rules a document of a source of rules; YAML or JSON, "-" is standard input. The exit code is 1 if there is a mistake;
warnings leave it 0.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			o := configfile.Options{Kind: kinds[kind], Rules: rules, Format: formats[format]}
			return check(cmd, files, o, output)
		},
	}
	outputFlag(cmd, &output)
	kindFlag(cmd, &kind)
	cmd.Flags().StringVar(&rules, "rules", "",
		"the files are documents of a source: the `key` of the family of a list, such as flowRules")
	cmd.Flags().Var(choice(&format, "guess", "sentinel", "java"), "format",
		"whose words a source's rules are in: guess, sentinel or java")
	complete(cmd, "format", "guess", "sentinel", "java")
	return cmd
}

func check(cmd *cobra.Command, files []string, o configfile.Options, output string) error {
	all, configurations, wrong := []configfile.Mistake{}, 0, false
	for _, file := range files {
		text, err := readFile(cmd, file)
		if err != nil {
			return failed(cmd, err)
		}
		found, n := configfile.Check(file, text, o)
		all, configurations = append(all, found...), configurations+n
	}
	for _, m := range all {
		wrong = wrong || !m.Warning
		if output == "text" {
			fmt.Fprintln(cmd.OutOrStdout(), m)
		}
	}
	if output == "json" {
		if err := writeJSON(cmd.OutOrStdout(), all); err != nil {
			return failed(cmd, err)
		}
	}
	if wrong {
		return exit(1)
	}
	if output == "text" {
		fmt.Fprintf(cmd.OutOrStdout(), "%d configuration(s) without a mistake\n", configurations)
	}
	return nil
}

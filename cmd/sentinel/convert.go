package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sentinel-envoy/internal/convert"
	service "sentinel-envoy/internal/ratelimit/rules"
	"sentinel-envoy/internal/rulestore"
)

// conversion is what a convert command was told.
type conversion struct {
	from, to, rules string
	source, server  string
	headers         []string
}

func convertCommand() *cobra.Command {
	c := &conversion{}
	products := []string{"java", "gateway", "crd", "opensergo", "ratelimit"}
	cmd := &cobra.Command{
		Use:   "convert [--from PRODUCT] [--to ratelimit|datasource] FILE",
		Short: "write our configuration for other products' rules, or our rules for others and to a source",
		Long: `Write our configuration for other products' rules, each below a comment that says what it was:

  java       rules of Java Sentinel or its dashboard: an object with flowRules, degradeRules, paramFlowRules, systemRules and
             authorityRules, or with --rules the list of one family
  gateway    ApiDefinition and GatewayFlowRule of Spring Cloud Gateway and Zuul: lists, or an object with apiDefinitions and
             gatewayFlowRules
  crd        custom resources of Sentinel's data source for Kubernetes: FlowRules, CircuitBreakerRules …
  opensergo  FaultToleranceRule with its strategies
  ratelimit  a configuration of envoyproxy/ratelimit

With --to ratelimit FILE is a configuration of ours, and what is written is envoyproxy/ratelimit's for the rules in cluster mode.

With --to datasource the rules of FILE, a configuration of ours or with --from another product's, become the document that --source
asks for: on standard output, or with --server there, in place of the one that it has.

What cannot be converted is said with file and line, and nothing is written. "-" is standard input.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd, args[0]) },
	}
	cmd.Flags().Var(choice(&c.from, products...), "from", "whose rules: "+strings.Join(products, ", "))
	complete(cmd, "from", products...)
	cmd.Flags().Var(choice(&c.to, "ratelimit", "datasource"), "to", "for whom: ratelimit or datasource")
	complete(cmd, "to", "ratelimit", "datasource")
	cmd.Flags().StringVar(&c.rules, "rules", "", "the `key` of the family of a list, such as degradeRules")
	cmd.Flags().StringVar(&c.source, "source", "", "with --to datasource: the `source`, as '{type: etcd, key: /sentinel/shop}'")
	cmd.Flags().StringVar(&c.server, "server", "", "with --to datasource: the `URL` of the server, as http://127.0.0.1:2379")
	cmd.Flags().StringArrayVar(&c.headers, "header", nil, "with --server: a header of the requests, as `'name: value'`")
	return cmd
}

func (c *conversion) run(cmd *cobra.Command, file string) error {
	from, to := cmd.Flags().Changed("from"), cmd.Flags().Changed("to")
	switch {
	case to && c.to == "ratelimit" && from:
		return errors.New("--to ratelimit is made of a configuration of ours, without --from")
	case (c.source != "") != (to && c.to == "datasource") || c.server != "" && c.source == "":
		return errors.New("--to datasource needs --source, and --source and --server are for it")
	case !from && !to:
		return errors.New("say --from or --to")
	}
	text, err := readFile(cmd, file)
	if err != nil {
		return failed(cmd, err)
	}
	out := string(text)
	if from {
		out, err = convert.From(c.from, file, text, c.rules)
		file += ", converted" // whose lines those are of which more may be wrong
	} else if c.to == "ratelimit" {
		out, err = service.FromPlugin(text)
	}
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return exit(1)
	}
	if to && c.to == "datasource" {
		return c.toSource(cmd, file, out)
	}
	fmt.Fprint(cmd.OutOrStdout(), out)
	return nil
}

// toSource writes the rules of a configuration to a data source, or says what would be written.
func (c *conversion) toSource(cmd *cobra.Command, file, text string) error {
	header, err := headersOf(c.headers)
	if err != nil {
		return err
	}
	source, err := convert.Source(c.source)
	if err != nil {
		return err
	}
	doc, beside, rules, err := convert.Document(file, []byte(text), source)
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return exit(1)
	}
	if len(beside) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "not in the document, but for the filter's configuration: %s\n", strings.Join(beside, ", "))
	}
	if c.server == "" {
		fmt.Fprint(cmd.OutOrStdout(), string(doc))
		return nil
	}
	store, err := rulestore.New(source.Origin, c.server, header)
	if err != nil {
		return err
	}
	_, version, err := store.Read(cmd.Context())
	if err != nil && !errors.Is(err, rulestore.ErrAbsent) {
		return failed(cmd, err)
	}
	if err := store.Write(cmd.Context(), doc, version); err != nil {
		return failed(cmd, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d rules written to %s\n", rules, store)
	return nil
}

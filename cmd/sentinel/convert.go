package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sentinel-envoy/internal/convert"
	service "sentinel-envoy/internal/ratelimit/rules"
)

func convertCommand() *cobra.Command {
	var from, to, rules string
	products := []string{"java", "gateway", "crd", "opensergo"}
	cmd := &cobra.Command{
		Use:   "convert --from java|gateway|crd|opensergo FILE, or convert --to ratelimit FILE",
		Short: "write our configuration for other products' rules",
		Long: `Write our configuration for other products' rules, each below a comment that says what it was:

  java       rules of Java Sentinel or its dashboard: an object with flowRules, degradeRules, paramFlowRules, systemRules and
             authorityRules, or with --rules the list of one family
  gateway    ApiDefinition and GatewayFlowRule of Spring Cloud Gateway and Zuul: lists, or an object with apiDefinitions and
             gatewayFlowRules
  crd        custom resources of Sentinel's data source for Kubernetes: FlowRules, CircuitBreakerRules …
  opensergo  FaultToleranceRule with its strategies

With --to ratelimit FILE is a configuration of ours, and what is written is envoyproxy/ratelimit's for the rules in cluster mode.

What cannot be converted is said with file and line, and nothing is written. "-" is standard input.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readFile(cmd, args[0])
			if err != nil {
				return failed(cmd, err)
			}
			var out string
			if cmd.Flags().Changed("to") {
				out, err = service.FromPlugin(text)
			} else {
				out, err = convert.From(from, args[0], text, rules)
			}
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), err)
				return exit(1)
			}
			fmt.Fprint(cmd.OutOrStdout(), out)
			return nil
		},
	}
	cmd.Flags().Var(choice(&from, products...), "from", "whose rules: java, gateway, crd or opensergo")
	complete(cmd, "from", products...)
	cmd.Flags().Var(choice(&to, "ratelimit"), "to", "for whom: ratelimit")
	complete(cmd, "to", "ratelimit")
	cmd.MarkFlagsMutuallyExclusive("from", "to")
	cmd.Flags().StringVar(&rules, "rules", "", "the `key` of the family of a list, such as degradeRules")
	return cmd
}

package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sentinel-envoy/internal/configfile"
	"sentinel-envoy/internal/explain"
	"sentinel-envoy/shared/config"
)

func explainCommand() *cobra.Command {
	var output, file string
	req := &explain.Request{}
	cmd := &cobra.Command{
		Use:   "explain --config FILE [-X METHOD] [-H 'name: value']… URL",
		Short: "say which rules are asked about a request, and what a refusal would say",
		Long: `Say which rules are asked about a request, and what a refusal would say, by the plugin's own code: no Envoy is
needed.

The file is as for check; of a bootstrap with several HTTP filters the first counts. A refusal is brought about by entries
that all come at one instant; of a circuit breaker by such that fail, and take long.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := url.Parse(args[0])
			if err != nil || u.Host == "" {
				return fmt.Errorf("%q is no URL such as http://shop.example.com/orders", args[0])
			}
			req.URL = u
			answer, err := explainFile(cmd, file, req)
			if err != nil {
				return failed(cmd, err)
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), answer)
			}
			tell(cmd.OutOrStdout(), answer)
			return nil
		},
	}
	outputFlag(cmd, &output)
	cmd.Flags().StringVarP(&file, "config", "c", "", "the `file` with the configuration")
	cmd.Flags().StringVarP(&req.Method, "request", "X", "GET", "the request's `method`")
	cmd.Flags().StringArrayVarP(&req.Headers, "header", "H", nil, "a request header, as `'name: value'`")
	cmd.Flags().StringArrayVarP(&req.Properties, "property", "p", nil, "an attribute of Envoy's, as `xds.route_name=orders`")
	cmd.Flags().StringVar(&req.Address, "address", "", "the client's `address`, for rules that look at it")
	_ = cmd.MarkFlagRequired("config") // it fails only for a flag that there is not
	return cmd
}

// explainFile looks at a request through the first HTTP filter of a file.
func explainFile(cmd *cobra.Command, file string, req *explain.Request) (*explain.Answer, error) {
	text, err := readFile(cmd, file)
	if err != nil {
		return nil, err
	}
	docs, err := configfile.Read(text)
	if err != nil {
		return nil, err
	}
	var own, shared *config.Config
	for _, d := range docs {
		for _, f := range configfile.Find(d, config.KindHTTP) {
			cfg, err := config.Parse(f.JSON(), f.Kind)
			switch {
			case err != nil:
				return nil, configfile.Error(f.Mistakes(file, "", err))
			case f.Kind == config.KindHTTP && own == nil:
				own = cfg
			case f.Kind == config.KindVM && shared == nil:
				shared = cfg
			}
		}
	}
	if own == nil {
		return nil, fmt.Errorf("%s has no configuration of an HTTP filter", file)
	}
	return explain.Explain(own, shared, req)
}

// tell writes an answer for people.
func tell(w io.Writer, a *explain.Answer) {
	if a.Resource == "" {
		fmt.Fprintln(w, "resource: none; nothing limits the request, and nothing counts it")
		return
	}
	if a.Unlimited {
		fmt.Fprintf(w, "resource: %s, which is unlimited: no rule is asked, and the request counted as exempt\n", a.Resource)
		return
	}
	name := a.Resource
	if len(a.Resources) > 0 {
		name = strings.Join(a.Resources, ", then ")
	}
	fmt.Fprintf(w, "resource: %s\nmode:     %s\n", name, a.Mode)
	if len(a.Rules) == 0 {
		fmt.Fprintln(w, "rules:    none; the request is counted, and passes")
	}
	for i, r := range a.Rules {
		of := ""
		if r.Resource != "" {
			of = " of " + r.Resource
		}
		fmt.Fprintf(w, "%d. %s %s%s: %s\n", i+1, r.Kind, r.ID, of, r.Says)
		if r.Item != "" {
			fmt.Fprintf(w, "   its value is the item %s\n", r.Item)
		}
		switch {
		case r.Skipped != "":
			fmt.Fprintf(w, "   not asked: %s\n", r.Skipped)
		case r.Refusal != "":
			fmt.Fprintf(w, "   after %d at once: %s\n", r.After, r.Refusal)
			if r.Body != "" {
				fmt.Fprintf(w, "   answer: %d, %s: %s\n", r.Status, r.ContentType, strings.TrimSuffix(r.Body, "\n"))
			} else if r.Status != 429 {
				fmt.Fprintf(w, "   answer: %d\n", r.Status)
			}
		default:
			fmt.Fprintln(w, "   does not refuse such requests that come at once")
		}
	}
}

package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"sentinel-envoy/internal/dashboard"
)

func dashboardCommand() *cobra.Command {
	o := dashboard.Options{Servers: map[string]string{}}
	var servers, headers, allow []string
	cmd := &cobra.Command{
		Use:   "dashboard --dashboard URL [--admin HOST:PORT]…",
		Short: "show Envoys in Sentinel's dashboard, and write the rules that it sets to their source",
		Long: `Show Envoys in Sentinel's dashboard, and write the rules that it sets to their source.

It tells the dashboard of each Envoy, reads the Envoy's admin page, and answers what the dashboard asks. Rules that the dashboard
sets are written to the datasource that the filters ask, where --server says how to reach it; otherwise they can be read only.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Header, err = headersOf(headers); err != nil {
				return err
			}
			for _, s := range servers {
				cluster, url, ok := strings.Cut(s, "=")
				if !ok {
					return fmt.Errorf("--server %q is not CLUSTER=URL, such as nacos=http://127.0.0.1:8848", s)
				}
				o.Servers[cluster] = url
			}
			for _, s := range allow {
				p, err := netip.ParsePrefix(s)
				if at, single := netip.ParseAddr(s); single == nil {
					p, err = netip.PrefixFrom(at, at.BitLen()), nil
				}
				if err != nil {
					return fmt.Errorf("--allow %q is no address or network", s)
				}
				o.Writers = append(o.Writers, p)
			}
			o.Log = cmd.ErrOrStderr()
			if err := dashboard.Run(cmd.Context(), o); err != nil {
				return failed(cmd, err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Dashboards, "dashboard", nil, "the dashboard's `URL`; several see the same")
	f.StringSliceVar(&o.Admins, "admin", []string{"127.0.0.1:8001"}, "an Envoy's admin page, as `host:port`; several are several machines")
	f.StringVar(&o.App, "app", "envoy", "the `name` that the Envoys have together")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8719", "the `host:port` of the first Envoy's commands; the next one's port is the next")
	f.StringVar(&o.IP, "ip", "", "the `address` at which the dashboard shall ask; found out without")
	f.StringArrayVar(&servers, "server", nil, "how to reach a datasource's cluster, as `CLUSTER=URL`: rules are then written there")
	f.StringArrayVar(&headers, "header", nil, "a header of requests to these servers, as `'name: value'`")
	f.StringSliceVar(&allow, "allow", nil, "an `address` or network that rules are taken from, beside the dashboard's")
	_ = cmd.MarkFlagRequired("dashboard") // it fails only for a flag that there is not
	return cmd
}

// headersOf reads headers as --header has them.
func headersOf(lines []string) (http.Header, error) {
	all := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("--header %q is not 'name: value'", line)
		}
		all.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return all, nil
}

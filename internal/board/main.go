// Command board writes the Grafana dashboard of the plugin's metrics.
//
//	go -C internal/board run . -o ../../envoy/observability/dashboard.json
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
)

func main() {
	out := flag.String("o", "../../envoy/observability/dashboard.json", "`file` to write")
	flag.Parse()
	text, err := render()
	if err == nil {
		err = os.WriteFile(*out, text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "board:", err)
		os.Exit(1)
	}
}

// render is the dashboard as Grafana imports it.
func render() ([]byte, error) {
	board, err := build()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(board, "", "  ")
	return append(text, '\n'), err
}

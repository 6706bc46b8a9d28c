package main

//lint:file-ignore SA1019 The newer schema is only of Grafana 12; this one every Grafana imports.

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/prometheus/prometheus/promql/parser"
)

const observability = "../../envoy/observability"

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What lies in envoy/observability is what this program writes. Nothing of it is lost when Grafana's types read it.
func TestBoardIsWhatIsMade(t *testing.T) {
	made, err := render()
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, filepath.Join(observability, "dashboard.json"))
	if !bytes.Equal(made, text) {
		t.Error("envoy/observability/dashboard.json is not what go -C internal/board run . writes")
	}
	types := cog.NewRuntime()
	types.RegisterPanelcfgVariant(timeseries.VariantConfig())
	types.RegisterPanelcfgVariant(statetimeline.VariantConfig())
	types.RegisterDataqueryVariant(prometheus.VariantConfig())
	var board dashboard.Dashboard
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	again, err := json.MarshalIndent(board, "", "  ")
	if err != nil || string(again)+"\n" != string(text) {
		t.Errorf("read and written (%v) it is\n%s", err, again)
	}
	shown := 0
	for _, p := range board.Panels {
		if p.Panel != nil {
			shown += len(p.Panel.Targets)
		}
	}
	want := 0
	for _, r := range rows {
		for _, p := range r.panels {
			want += len(p.queries)
		}
	}
	if shown != want || want < 15 {
		t.Errorf("the file has %d queries, want %d", shown, want)
	}
}

// filled is a query as Grafana sends it with everything chosen.
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "10s", "$job", ".*", "$instance", ".*", "$resource", ".*").Replace(expr)
}

// Every query parses, and names only metrics that the documents describe, by the labels that these have.
func TestQueriesAreOfOurMetrics(t *testing.T) {
	told := map[string]string{} // a metric's labels by its name
	table := regexp.MustCompile("(?m)^\\| (`sentinel_[^|]+) \\|")
	for _, m := range table.FindAllStringSubmatch(string(read(t, "../../docs/operations.md")), -1) {
		labels := regexp.MustCompile(`\{(.*)\}`).FindString(m[1])
		for _, name := range regexp.MustCompile(`sentinel_[a-z_]+`).FindAllString(m[1], -1) {
			told[name] = labels
		}
	}
	for _, r := range rows {
		for _, p := range r.panels {
			for _, q := range p.queries {
				expr, err := parser.NewParser(parser.Options{}).ParseExpr(filled(q.expr))
				if err != nil {
					t.Errorf("%s: %v", p.title, err)
					continue
				}
				parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
					if s, ok := n.(*parser.VectorSelector); ok {
						seeMetric(t, p.title, s, told)
					}
					return nil
				})
			}
		}
	}
}

func seeMetric(t *testing.T, title string, s *parser.VectorSelector, told map[string]string) {
	t.Helper()
	labels, there := told[s.Name]
	if !there {
		t.Errorf("%s: docs/operations.md does not tell of %s", title, s.Name)
	}
	for _, m := range s.LabelMatchers {
		if m.Name == "resource" && !strings.Contains(labels, "resource") {
			t.Errorf("%s: %s has the labels %s, no resource", title, s.Name, labels)
		}
	}
}

package main

//lint:file-ignore SA1019 The newer schema is only of Grafana 12; this one every Grafana imports.

import (
	"strconv"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// A panel's size, of a grid that is 24 wide.
const (
	width  = 8
	height = 8
)

// source is where all queries go: the Prometheus that the variable names.
var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

// build makes the dashboard.
func build() (dashboard.Dashboard, error) {
	b := dashboard.NewDashboardBuilder("Sentinel for Envoy").Uid("sentinel-envoy").Tags([]string{"envoy", "sentinel"}).
		Description("Flow control by the Sentinel plugin: traffic, limits, circuit breakers, and the plugin's own health.").
		Time("now-1h", "now").Refresh("10s").Timezone("browser").Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus")).
		WithVariable(choice("job", "sentinel_ticks")).
		WithVariable(choice("instance", `sentinel_ticks{job=~"$job"}`)).
		WithVariable(choice("resource", `sentinel_passed{job=~"$job", instance=~"$instance"}`))
	for _, r := range rows {
		b.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			b.WithPanel(p.build())
		}
	}
	return b.Build()
}

// choice is a variable of the values of a label of a metric; all of them to begin with.
func choice(label, metric string) *dashboard.QueryVariableBuilder {
	query := "label_values(" + metric + ", " + label + ")"
	return dashboard.NewQueryVariableBuilder(label).Datasource(source).Multi(true).IncludeAll(true).AllValue(".*").
		Query(dashboard.StringOrMap{String: &query}).Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc)
}

// build makes the panel.
func (p panel) build() cog.Builder[dashboard.Panel] {
	var targets []cog.Builder[variants.Dataquery]
	for i, q := range p.queries {
		targets = append(targets, prometheus.NewDataqueryBuilder().Datasource(source).RefId(string(rune('A'+i))).
			Range().Expr(q.expr).LegendFormat(q.legend))
	}
	if p.states {
		return statetimeline.NewPanelBuilder().Title(p.title).Description(p.about).Datasource(source).Targets(targets).
			Span(width).Height(height).Mappings([]dashboard.ValueMapping{{ValueMap: phases()}})
	}
	return timeseries.NewPanelBuilder().Title(p.title).Description(p.about).Datasource(source).Targets(targets).
		Span(width).Height(height).Unit(p.unit).Min(0).FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).
			Placement(common.LegendPlacementBottom)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
}

// phases are the states of a breaker by their numbers.
func phases() *dashboard.ValueMap {
	m := dashboard.NewValueMap()
	for number, phase := range [...][2]string{{"closed", "green"}, {"half-open", "yellow"}, {"open", "red"}} {
		m.Options[strconv.Itoa(number)] = dashboard.ValueMappingResult{Text: &phase[0], Color: &phase[1]}
	}
	return m
}

package main

// row is a heading and the panels below it.
type row struct {
	title  string
	panels []panel
}

// panel is a picture of some series over time.
type panel struct {
	title, about string
	unit         string // as Grafana names it
	states       bool   // whether the series are states of a breaker
	queries      []query
}

// query is an expression of PromQL, and how its series are called. A dollar begins one of Grafana's variables.
type query struct{ expr, legend string }

// Of what the variables choose; what has no resource is of the process.
const (
	chosen  = `{job=~"$job", instance=~"$instance", resource=~"$resource"}`
	process = `{job=~"$job", instance=~"$instance"}`
)

// rate is how much a counter grows in a second, summed up by some labels.
func rate(metric, by string) string {
	return "sum by (" + by + ") (rate(" + metric + chosen + "[$__rate_interval]))"
}

// ratio is one thing divided by another, where there is any of that.
func ratio(part, whole string) string { return part + " / (" + whole + " > 0)" }

// rows are the whole board. Each panel must have series while all families of rules are at work.
var rows = []row{
	{"Traffic", []panel{
		{title: "Passed", about: "Entries let in, by resource.", unit: "reqps",
			queries: []query{{rate("sentinel_passed", "resource"), "{{resource}}"}}},
		{title: "Blocked", about: "Entries refused, by the rule that refused them.", unit: "reqps",
			queries: []query{{rate("sentinel_blocked", "resource, rule, kind"), "{{kind}}:{{rule}} on {{resource}}"}}},
		{title: "In flight", about: "Entries that have not ended yet, of all workers.", unit: "short",
			queries: []query{{"sum by (resource) (sentinel_in_flight" + chosen + ")", "{{resource}}"}}},
		{title: "Response time", about: "Mean wait for the first byte of an answer.", unit: "ms",
			queries: []query{{ratio(rate("sentinel_rt_ms_sum", "resource"), rate("sentinel_completed", "resource")),
				"{{resource}}"}}},
		{title: "Failed", about: "Share of ended entries that failed, of resources where a rule asks for it.", unit: "percentunit",
			queries: []query{{ratio(rate("sentinel_failed", "resource"), rate("sentinel_completed", "resource")), "{{resource}}"}}},
		{title: "Would be blocked", about: "Entries that rules in shadow mode would have refused.", unit: "reqps",
			queries: []query{{rate("sentinel_shadow_blocked", "resource, rule, kind"), "{{kind}}:{{rule}} on {{resource}}"}}},
	}},
	{"Limits", []panel{
		{title: "Threshold in force", about: "Entries per window; less than the rule says while it warms up.", unit: "short",
			queries: []query{{"max by (instance, resource, rule) (sentinel_threshold" + chosen + ")",
				"{{rule}} on {{resource}}, {{instance}}"}}},
		{title: "Fill of the window", about: "What of the threshold is spent, in the fullest process.", unit: "percentunit",
			queries: []query{{"max by (resource, rule) (1 - " + ratio("sentinel_remaining"+chosen, "sentinel_threshold"+chosen) + ")",
				"{{rule}} on {{resource}}"}}},
		{title: "Near the limit", about: "Entries let in beyond 80 % of a threshold.", unit: "reqps",
			queries: []query{{rate("sentinel_near_limit", "resource, rule"), "{{rule}} on {{resource}}"}}},
		{title: "Wait for a turn", about: "Mean wait of the entries that Throttling made wait.", unit: "ms",
			queries: []query{{ratio(rate("sentinel_wait_ms_sum", "resource, rule"), rate("sentinel_waited", "resource, rule")),
				"{{rule}} on {{resource}}"}}},
		{title: "Without a parameter", about: "Entries without a value of a hotspot rule's parameter.", unit: "reqps",
			queries: []query{{rate("sentinel_hotspot_absent", "resource, rule"), "{{rule}} on {{resource}}"}}},
	}},
	{"Circuit breakers", []panel{
		{title: "State", about: "The worst of all chosen processes.", states: true,
			queries: []query{{"max by (resource, rule) (sentinel_breaker_state" + chosen + ")", "{{rule}} on {{resource}}"}}},
		{title: "Changes", about: "How often breakers changed their state in a minute.", unit: "short",
			queries: []query{{"sum by (resource, rule, from, to) (increase(sentinel_breaker_changes" + chosen + "[1m]))",
				"{{rule}} on {{resource}}: {{from}} → {{to}}"}}},
	}},
	{"Processes", []panel{
		{title: "Workers", about: "VMs that live: --concurrency and one more.", unit: "short",
			queries: []query{{"sentinel_workers" + process, "{{instance}}"}}},
		{title: "Ticks", about: "About 50 a second for each VM of each vm_id. 0 means that all are dead.", unit: "cps",
			queries: []query{{"sum by (instance) (rate(sentinel_ticks" + process + "[$__rate_interval]))", "{{instance}}"}}},
		{title: "Faults", about: "Faults of the plugin's own, and workers that were lost.", unit: "cps",
			queries: []query{
				{"sum by (instance) (rate(sentinel_faults" + process + "[$__rate_interval]))", "faults, {{instance}}"},
				{"sum by (instance) (rate(sentinel_workers_lost" + process + "[$__rate_interval]))", "workers lost, {{instance}}"},
			}},
		{title: "Room for records", about: "Records that a process has room for yet, of 32,768.", unit: "short",
			queries: []query{{"min by (instance) (sentinel_records_free" + process + ")", "{{instance}}"}}},
		{title: "Rule sets", about: "How many sets of rules a process's workers apply: for long there is one.", unit: "short",
			queries: []query{{"count by (instance) (count_values by (instance) (\"hash\", sentinel_rules_hash" + process + " != 0))",
				"{{instance}}"}}},
	}},
}

package top

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"sentinel-envoy/internal/envoytest"
)

// page is an admin page whose counters grow by so much with each reading.
func page(t *testing.T) string {
	t.Helper()
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stats/prometheus" {
			http.NotFound(w, r)
			return
		}
		i := n.Add(1)
		fmt.Fprintf(w, `# TYPE sentinel_passed counter
sentinel_passed{resource="orders"} %d
sentinel_passed{resource="users"} %d
sentinel_completed{resource="orders"} %d
sentinel_rt_ms_sum{resource="orders"} %d
sentinel_in_flight{resource="orders"} 3
sentinel_block_qps{resource="orders"} 7
sentinel_blocked{resource="orders",rule="qps",kind="flow"} %d
sentinel_threshold{resource="orders",rule="qps",kind="flow"} 100
sentinel_remaining{resource="orders",rule="qps",kind="flow"} 25
sentinel_breaker_state{resource="users",rule="sick"} 2
sentinel_breaker_changes{resource="users",rule="sick",from="closed",to="open"} 1
sentinel_workers{} 5
sentinel_rules_hash{worker="0"} 7
sentinel_rules_hash{worker="1"} 7
sentinel_rules_hash{worker="2"} 0
sentinel_rules_hash{worker="3"} 8
envoy_listener_worker_downstream_cx_active{envoy_worker_id="0",envoy_listener_address="a"} 2
envoy_listener_worker_downstream_cx_active{envoy_worker_id="0",envoy_listener_address="b"} 3
envoy_listener_worker_downstream_cx_total{envoy_worker_id="0",envoy_listener_address="a"} %d
envoy_other{} 1
`, 40*i, 1000*i, 40*i, 480*i, 10*i, 6*i)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func run(t *testing.T, args ...string) (code int, out, failed string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = Main(t.Context(), args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestOnce(t *testing.T) {
	code, out, failed := run(t, "-once", "-json", "-interval", "100ms", "-admin", page(t))
	var f Figures
	if err := json.Unmarshal([]byte(out), &f); code != 0 || err != nil {
		t.Fatalf("code %d, %v: %s%s", code, err, out, failed)
	}
	if len(f.Resources) != 2 || len(f.Rules) != 2 || f.Process.Workers != 5 || f.Process.RuleSets != 2 {
		t.Fatalf("it says %s", out)
	}
	orders, qps, sick := f.Resources[0], f.Rules[0], f.Rules[1]
	if orders.Name != "orders" || math.Abs(orders.RT-12) > 0.001 || orders.InFlight != 3 || orders.Passed <= 0 || orders.Blocked != 7 {
		t.Errorf("orders: %+v", orders)
	}
	if qps.ID != "qps" || qps.Kind != "flow" || qps.Fill() != 0.75 || qps.Blocked <= 0 || qps.State != "" {
		t.Errorf("qps: %+v", qps)
	}
	if sick.ID != "sick" || sick.State != "open" || sick.Threshold != 0 {
		t.Errorf("sick: %+v", sick)
	}
	var states []string
	for _, w := range f.Workers {
		states = append(states, w.Name+w.State)
	}
	if got, want := strings.Join(states, ","), "VM   0,VM   1,VM   2gone,VM   3differs,thread   0"; got != want {
		t.Errorf("workers %s, want %s", got, want)
	}
	if w := f.Workers[4]; w.Connections != 5 || w.Opened <= 0 || f.Workers[0].Rules != "00000007" {
		t.Errorf("%+v", f.Workers)
	}
	code, out, _ = run(t, "-once", "-interval", "100ms", "-filter", "ORD", "-admin", page(t))
	if code != 0 || !strings.Contains(out, "████████░░ 75/100") || strings.Contains(out, "users") {
		t.Errorf("code %d, with a filter:\n%s", code, out)
	}
}

// What no worker has counted yet is not shown as none.
func TestRoomIsUnknownAtFirst(t *testing.T) {
	free := 1234.0
	for want, p := range map[string]Process{"room for records ·": {}, "room for records 1234": {RecordsFree: &free}} {
		if head := p.head(); !strings.HasSuffix(head, want) {
			t.Errorf("%q, want %q", head, want)
		}
	}
	if _, out, _ := run(t, "-admin", page(t), "-once", "-interval", "100ms"); !strings.Contains(out, "room for records ·") {
		t.Errorf("a page without that figure: %s", out)
	}
}

func TestTopSaysWhatIsWrong(t *testing.T) {
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "envoy_x{} 1")
	}))
	defer empty.Close()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-once", "-admin", strings.TrimPrefix(empty.URL, "http://")}, 1, "no metrics of Sentinel's"},
		{[]string{"-once", "-admin", "127.0.0.1:1"}, 1, "refused"},
		{[]string{"-json"}, 2, "-json only with -once"},
		{[]string{"-interval", "1ms"}, 2, "at least 100ms"},
		{[]string{"other"}, 2, "no arguments"},
		{[]string{"-other"}, 2, "Usage: sentinel top"},
		{[]string{"-h"}, 0, "Usage: sentinel top"},
	} {
		if code, _, failed := run(t, c.args...); code != c.code || !strings.Contains(failed, c.want) {
			t.Errorf("%v: code %d, %q, want %d and %q", c.args, code, failed, c.code, c.want)
		}
	}
}

// Counters that fall, because Envoy was started anew, are no negative rates.
func TestRestartIsNoNegativeRate(t *testing.T) {
	at := time.Now()
	sample := func(v float64) []envoytest.Sample {
		return []envoytest.Sample{{Name: "sentinel_passed", Labels: map[string]string{"resource": "r"}, Value: v}}
	}
	f := read(sample(3), at.Add(time.Second)).figures(read(sample(1000), at))
	if f.Resources[0].Passed != 0 {
		t.Errorf("%+v", f.Resources[0])
	}
}

// press gives a screen keys one after the other.
func press(s tea.Model, keys ...string) tea.Model {
	for _, k := range keys {
		m := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)}
		for typ, name := range map[tea.KeyType]string{tea.KeyTab: "tab", tea.KeyEnter: "enter", tea.KeyEsc: "esc",
			tea.KeyRight: "right", tea.KeyBackspace: "backspace", tea.KeyDown: "down"} {
			if k == name {
				m = tea.KeyMsg{Type: typ}
			}
		}
		s, _ = s.Update(m)
	}
	return s
}

// rowsOf are the first words of what is below the table's heading.
func rowsOf(s tea.Model) string {
	var words []string
	for _, line := range strings.Split(s.View(), "\n")[3:] {
		words = append(words, strings.Fields(line)[0])
	}
	return strings.Join(words, " ")
}

func TestKeys(t *testing.T) {
	source := &source{ctx: t.Context(), admin: envoytest.NewAdmin(page(t)), every: time.Second}
	var s tea.Model = screen{source: source}
	for range 2 {
		s, _ = s.Update(s.Init()())
	}
	for _, c := range []struct{ keys, want string }{
		{"", "orders users"},
		{"r", "users orders"},
		{"right", "users orders"}, // by what passed: users have more
		{"right r", "orders users"},
		{"/ u s", "users"},
		{"/ u s backspace backspace enter", "orders users"},
		{"/ u enter esc", "orders users"},
		{"tab", "qps sick"},
		{"tab / f l o w enter", "qps"},
		{"tab /flow enter", "qps"}, // typed fast, or pasted
		{"down", "users"},
		{"down down down down", "users"},
		{"tab tab", "VM VM VM VM thread"},
		{"tab tab right right right", "thread VM VM VM VM"}, // by connections
		{"tab tab / d i f f enter", "VM"},
		{"tab tab tab", "orders users"},
	} {
		if got := rowsOf(press(s, strings.Fields(c.keys)...)); got != c.want {
			t.Errorf("after %q it shows %s, want %s", c.keys, got, c.want)
		}
	}
	s, _ = s.Update(tea.WindowSizeMsg{Width: 80, Height: 4})
	if got := strings.Count(s.View(), "\n") + 1; got != 4 {
		t.Errorf("%d lines in a window of 4:\n%s", got, s.View())
	}
	if _, quits := s.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("q")}); quits == nil {
		t.Error("q does not quit")
	}
	s, _ = s.Update(news{err: fmt.Errorf("gone")})
	if !strings.Contains(s.View(), "no answer: gone") || !strings.Contains(s.View(), "orders") {
		t.Errorf("without an answer it shows\n%s", s.View())
	}
}

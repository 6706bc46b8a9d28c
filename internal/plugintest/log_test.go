package plugintest

import "testing"

func TestParseDecided(t *testing.T) {
	const head = "[2026-01-02 03:04:05.678][17][debug][wasm] [source] wasm log sentinel: "
	for _, c := range []struct {
		line    string
		want    Decided
		ok, bad bool
	}{
		{head + "audit rule=web-qps bucket_ms=500 bucket=77 admitted=3 refused=2\n", Decided{"web-qps", 500, 77, 3, 2, 0}, true, false},
		{head + "audit rule=web-qps bucket_ms=1000/200 bucket=77 admitted=-3 refused=2\n", Decided{"web-qps", 1000, 77, -3, 2, 200}, true, false},
		{head + "audit rule=web-qps bucket_ms=500 bucket=77 admitted=3 refus", Decided{}, false, false}, // has no end yet
		{head + "this worker (1) aggregates\n", Decided{}, false, false},
		{head + "audit rule=web-qps bucket_ms=500 bucket=x admitted=3 refused=2\n", Decided{}, true, true},
	} {
		got, ok, err := ParseDecided(c.line)
		if ok != c.ok || (err != nil) != c.bad || err == nil && got != c.want {
			t.Errorf("%q: %+v, %t, %v", c.line, got, ok, err)
		}
	}
}

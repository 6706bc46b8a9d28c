package seeds_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/internal/seeds"
)

// sample is the environment variable that says how the sample ends.
const sample = "SENTINEL_SEEDS_SAMPLE"

// TestSample is what the tests below look at, in a process of their own.
func TestSample(t *testing.T) {
	ends := os.Getenv(sample)
	if ends == "" {
		t.Skip("no test asks for it")
	}
	runs, try := 0, seeds.Try
	if ends == "sample" {
		try = seeds.Sample
	}
	try(t, 30, func(t *testing.T, seed uint64) {
		t.Logf("tried %d", seed)
		if runs++; runs < 2 && seed != 42 {
			return
		}
		switch ends {
		case "error":
			t.Error("wrong")
		case "fatal":
			t.Fatal("wrong")
		case "panic":
			panic("wrong")
		}
	})
	t.Logf("complete: %t", seeds.Complete())
}

// outcome is what became of the sample.
type outcome struct {
	failed bool
	tried  []string // the seeds
	again  string   // the last part of the line that says how to run it again
	output string
}

func runSample(t *testing.T, ends string, args ...string) (o outcome) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append(args, "-test.run=^TestSample$", "-test.v")...)
	cmd.Env = append(os.Environ(), sample+"="+ends)
	out, err := cmd.CombinedOutput()
	o.failed, o.output = err != nil, string(out)
	for line := range strings.Lines(o.output) {
		if _, seed, ok := strings.Cut(strings.TrimSpace(line), "tried "); ok {
			o.tried = append(o.tried, seed)
		}
		if _, args, ok := strings.Cut(strings.TrimSpace(line), "to run it again, "); ok {
			o.again = args
		}
	}
	return o
}

func TestAFailingRunIsTheLastAndPrintsItsSeed(t *testing.T) {
	for _, ends := range []string{"error", "fatal", "panic"} {
		o := runSample(t, ends)
		if !o.failed || len(o.tried) != 2 || o.again != "-run '^TestSample$' -seed "+o.tried[1] {
			t.Errorf("%s: failed %t after the seeds %v, to run again: %q\n%s", ends, o.failed, o.tried, o.again, o.output)
		}
	}
}

func TestTheFlagRunsOneSeed(t *testing.T) {
	o := runSample(t, "error", "-seed=42")
	if !o.failed || len(o.tried) != 1 || o.tried[0] != "42" {
		t.Errorf("failed %t with the seeds %v", o.failed, o.tried)
	}
	if o = runSample(t, "", "-seed=x"); !o.failed {
		t.Errorf("a seed that is no number is taken:\n%s", o.output)
	}
}

func TestShortMakesATenthOfTheRuns(t *testing.T) {
	for _, c := range []struct {
		args     []string
		runs     int
		complete string
	}{{nil, 30, "true"}, {[]string{"-test.short"}, 3, "false"}, {[]string{"-seed=1"}, 1, "false"}} {
		o := runSample(t, "well", c.args...)
		if o.failed || len(o.tried) != c.runs || !strings.Contains(o.output, "complete: "+c.complete) {
			t.Errorf("%v: failed %t after %d runs, want %d\n%s", c.args, o.failed, len(o.tried), c.runs, o.output)
		}
		distinct := map[string]bool{}
		for _, seed := range o.tried {
			distinct[seed] = true
		}
		if len(distinct) != len(o.tried) {
			t.Errorf("%v: seeds come twice: %v", c.args, o.tried)
		}
	}
}

func TestASampleIsTheSameEachTime(t *testing.T) {
	a, b := runSample(t, "sample"), runSample(t, "sample")
	if a.failed || len(a.tried) != 30 || !slices.Equal(a.tried, b.tried) {
		t.Errorf("failed %t, seeds %v and then %v", a.failed, a.tried, b.tried)
	}
	if a = runSample(t, "sample", "-test.short"); len(a.tried) != 3 {
		t.Errorf("in short %v", a.tried)
	}
	if a = runSample(t, "sample", "-seed=42"); !slices.Equal(a.tried, []string{"42"}) {
		t.Errorf("with the flag %v", a.tried)
	}
}

package plugintest

import (
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
)

// VMDied matches what Envoy logs when a call into a VM fails.
const VMDied = `(Function: \w+ failed|Uncaught RuntimeError|Uncaught RangeError|panic:|fatal error:).*`

// NoVMDied fails the test where a VM has.
func NoVMDied(t testing.TB, e *envoytest.Envoy) {
	t.Helper()
	if lines := e.Log.All(VMDied); len(lines) > 0 {
		t.Errorf("%d lines tell of a VM that died, the first: %s", len(lines), lines[0][0])
	}
}

// Trap has a fault kill the VM of a lane's worker, or with the fault "trap-idle" the main thread's, and waits until the log
// tells of it. It gives the status of the request that did it, 0 where its connection broke.
func Trap(t testing.TB, e *envoytest.Envoy, l *Lane, fault string) (status int) {
	t.Helper()
	before := len(e.Log.All(VMDied))
	status = l.Get(t, "/", "x-sentinel-fault", fault)
	envoytest.Eventually(t, patience, "the log tells of the VM's death", func() bool {
		return len(e.Log.All(VMDied)) > before
	})
	return status
}

// Aggregators are the threads whose VMs have announced that they aggregate, the last one last. The test fails where none
// has.
func Aggregators(t testing.TB, e *envoytest.Envoy) []string {
	t.Helper()
	all := threads(e, `^\[[^]]*\]\[(\d+)\].* this worker \(\d+\) aggregates$`)
	if len(all) == 0 {
		t.Fatal("no worker has announced that it aggregates")
	}
	return all
}

// Aggregator is the last of Aggregators.
func Aggregator(t testing.TB, e *envoytest.Envoy) string {
	t.Helper()
	all := Aggregators(t, e)
	return all[len(all)-1]
}

// threads are the first submatches of a pattern in the log.
func threads(e *envoytest.Envoy, pattern string) (all []string) {
	for _, m := range e.Log.All(pattern) {
		all = append(all, m[1])
	}
	return all
}

// Decided is what one worker decided about a rule in one bucket of time, as the plugins log it at debug level.
type Decided struct {
	Rule              string
	BucketMs, Bucket  int64
	Admitted, Refused int
	// Slices is not 0 where a bucket is that part of BucketMs, of an exact window.
	Slices int64
}

// ParseDecided reads a whole line of the log. ok is whether it is one that tells of decisions.
func ParseDecided(line string) (d Decided, ok bool, err error) {
	// By hand: the lines are many.
	_, text, ok := strings.Cut(line, "audit rule=")
	if !ok || !strings.HasSuffix(line, "\n") {
		return d, false, nil
	}
	d.Rule, text, _ = strings.Cut(text, " ")
	sliced := strings.IndexByte(text, '/')
	if sliced < 0 {
		const format = "bucket_ms=%d bucket=%d admitted=%d refused=%d\n"
		_, err = fmt.Sscanf(text, format, &d.BucketMs, &d.Bucket, &d.Admitted, &d.Refused)
	} else {
		const format = "bucket_ms=%d/%d bucket=%d admitted=%d refused=%d\n"
		_, err = fmt.Sscanf(text, format, &d.BucketMs, &d.Slices, &d.Bucket, &d.Admitted, &d.Refused)
	}
	if err != nil {
		err = fmt.Errorf("%w in %q", err, line)
	}
	return d, true, err
}

package stall

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outer is a test whose failure can be looked at.
type outer struct {
	*attempt
	log []string
}

func (o *outer) Log(args ...any) { o.log = append(o.log, fmt.Sprintln(args...)) }

func (o *outer) Logf(format string, args ...any) { o.log = append(o.log, fmt.Sprintf(format, args...)) }

func (o *outer) Fatalf(format string, args ...any) {
	o.Logf(format, args...)
	o.FailNow()
}

// run is retry with the gaps that the watch measures in the attempts in turn.
func run(t *testing.T, gaps []time.Duration, check func(t testing.TB, n int)) (o *outer, tried int) {
	o = &outer{attempt: &attempt{TB: t, ctx: t.Context()}}
	o.run(func() {
		retry(o, func() func() time.Duration {
			gap := gaps[tried]
			tried++
			return func() time.Duration { return gap }
		}, func(t testing.TB) { check(t, tried) })
	})
	return o, tried
}

func fail(t testing.TB, _ int) { t.Fatal("wrong") }

func TestOnlyAStallIsAReasonToTryAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		gaps   []time.Duration
		check  func(t testing.TB, n int)
		failed bool
		tried  int
		says   string
	}{
		{"well", []time.Duration{0}, func(testing.TB, int) {}, false, 1, ""},
		{"well though it stood still", []time.Duration{time.Minute}, func(testing.TB, int) {}, false, 1, ""},
		{"wrong", []time.Duration{tooLong - 1}, fail, true, 1, "wrong"},
		{"wrong without an end", []time.Duration{0}, func(t testing.TB, _ int) { t.Errorf("%d", 7) }, true, 1, "7"},
		{"wrong once", []time.Duration{2 * time.Second, 0}, func(t testing.TB, n int) {
			if n == 1 {
				t.Error("wrong")
			}
		}, false, 2, "stood still for 2s: attempt 2 of 3 follows"},
		{"wrong again", []time.Duration{time.Minute, 0}, fail, true, 2, "wrong"},
		{"always wrong", []time.Duration{tooLong, tooLong, tooLong}, fail, true, 3, "the last of 3 attempts"},
	} {
		o, tried := run(t, c.gaps, c.check)
		if o.Failed() != c.failed || tried != c.tried || !strings.Contains(strings.Join(o.log, "\n"), c.says) {
			t.Errorf("%s: failed %t after %d attempts, want %t after %d: %q", c.name, o.Failed(), tried, c.failed, c.tried, o.log)
		}
	}
}

func TestEachAttemptCleansUp(t *testing.T) {
	var did []string
	o, _ := run(t, []time.Duration{tooLong, 0}, func(t testing.TB, n int) {
		t.Cleanup(func() { did = append(did, fmt.Sprint("first of ", n, ", over: ", t.Context().Err() != nil)) })
		t.Cleanup(func() {
			did = append(did, fmt.Sprint("second of ", n))
			t.Cleanup(func() { did = append(did, "a late one") })
			if n == 2 {
				t.Fatal("wrong at the end")
			}
		})
		if n == 1 {
			t.Fatal("wrong")
		}
	})
	want := []string{"second of 1", "a late one", "first of 1, over: true", "second of 2", "a late one", "first of 2, over: true"}
	if !slices.Equal(did, want) {
		t.Errorf("%q, want %q", did, want)
	}
	if !o.Failed() {
		t.Error("what fails while it cleans up does not fail the test")
	}
}

// asSample is the environment variable that makes TestSample do its work.
const asSample = "SENTINEL_STALL_SAMPLE"

// TestSample watches until its standard input ends, and prints the gap. It is a process that can be made to stand still.
func TestSample(t *testing.T) {
	if os.Getenv(asSample) == "" {
		t.Skip("no test asks for it")
	}
	longest := watch()
	fmt.Println("watching")
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println("gap", int64(longest()))
}

func TestWatchSeesThatItDidNotRun(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSample$")
	cmd.Env = append(os.Environ(), asSample+"=1")
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "watching\n" {
		t.Fatalf("%q, %v", line, err)
	}
	const still = 300 * time.Millisecond
	stop := cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(still) // which is what is to be seen
	goOn := cmd.Process.Signal(syscall.SIGCONT)
	if err := errors.Join(stop, goOn, in.Close()); err != nil {
		t.Fatal(err)
	}
	var gap int64
	if _, err := fmt.Fscanf(lines, "gap %d\n", &gap); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := time.Duration(gap); got < still/2 {
		t.Errorf("a process that was stopped for %v saw a gap of %v", still, got)
	}
}

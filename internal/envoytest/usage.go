package envoytest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc; Linux tells every process 100 ticks per second.
const clockTick = 10 * time.Millisecond

// Worker is one worker thread of an Envoy.
type Worker struct {
	TID  int    // thread id
	Name string // the thread's name, such as "wrk:worker_0"
	CPU  time.Duration
}

// CPUTime gives the CPU time, user and system, that Envoy has used so far, in steps of 10 ms. Linux only.
func (p *Process) CPUTime() (time.Duration, error) {
	return cpuTime(fmt.Sprintf("/proc/%d/stat", p.PID()))
}

// RSS gives Envoy's resident memory in bytes. Linux only.
func (p *Process) RSS() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID()))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm has %d fields", len(fields))
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// Private gives the memory in bytes that Envoy has written: what one more Envoy takes, which shares its program with the
// others. Linux only.
func (p *Process) Private() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == "Private_Dirty:" {
			kB, err := strconv.ParseInt(fields[1], 10, 64)
			return kB << 10, err
		}
	}
	return 0, errors.New("smaps_rollup says nothing of private memory")
}

// Workers gives Envoy's worker threads, ordered by thread id. Linux only.
func (p *Process) Workers() ([]Worker, error) {
	tasks := fmt.Sprintf("/proc/%d/task", p.PID())
	entries, err := os.ReadDir(tasks)
	if err != nil {
		return nil, err
	}
	var workers []Worker
	for _, e := range entries {
		name, err := os.ReadFile(filepath.Join(tasks, e.Name(), "comm"))
		if err != nil {
			continue // the thread has just ended
		}
		if !strings.HasPrefix(string(name), "wrk:") {
			continue
		}
		cpu, err := cpuTime(filepath.Join(tasks, e.Name(), "stat"))
		if err != nil {
			continue
		}
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		workers = append(workers, Worker{TID: tid, Name: strings.TrimSpace(string(name)), CPU: cpu})
	}
	return workers, nil
}

// cpuTime reads utime and stime, the fields 14 and 15, from a stat file of /proc.
func cpuTime(path string) (time.Duration, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The name, field 2, is in parentheses and may hold anything: count from its end.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s has %d fields after the name", path, len(fields))
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, err
}

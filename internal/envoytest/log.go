package envoytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// pollEvery is how often things that give no notice are looked at.
const pollEvery = 10 * time.Millisecond

// Log reads a text file that an Envoy is writing: its own log or an access log. Patterns are regular expressions,
// matched line by line; one that does not compile panics.
type Log struct {
	path  string
	mark  atomic.Int64
	ended <-chan struct{}
}

// Path gives the file's path.
func (l *Log) Path() string { return l.path }

// Mark makes later calls of All and WaitFor start at the log's present end.
func (l *Log) Mark() {
	if info, err := os.Stat(l.path); err == nil {
		l.mark.Store(info.Size())
	}
}

// All gives every match since the mark, each with its submatches as regexp's FindStringSubmatch gives them. A last line
// that has no end yet is left out.
func (l *Log) All(pattern string) [][]string {
	re := regexp.MustCompile(pattern)
	text, _ := l.readFrom(l.mark.Load())
	return matches(re, wholeLines(text))
}

// WaitFor waits until a line since the mark matches, and gives the match and its submatches. It fails when ctx is done,
// or when Envoy has ended without such a line.
func (l *Log) WaitFor(ctx context.Context, pattern string) ([]string, error) {
	re := regexp.MustCompile(pattern)
	at := l.mark.Load()
	for {
		ended := closed(l.ended) // before reading, so that what Envoy wrote last is read too
		text, err := l.readFrom(at)
		if err != nil {
			return nil, err
		}
		lines := wholeLines(text)
		if found := matches(re, lines); len(found) > 0 {
			return found[0], nil
		}
		at += int64(len(lines))
		if ended {
			return nil, fmt.Errorf("no line matches %q in %s, and Envoy has ended; the last lines:\n%s", pattern, l.path, l.Tail(20))
		}
		if err := sleep(ctx, pollEvery); err != nil {
			return nil, fmt.Errorf("no line matches %q in %s: %w; the last lines:\n%s", pattern, l.path, err, l.Tail(20))
		}
	}
}

// String gives the whole file, whatever the mark.
func (l *Log) String() string {
	text, _ := l.readFrom(0)
	return string(text)
}

// Tail gives the last n lines.
func (l *Log) Tail(n int) string {
	lines := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// readFrom reads from the offset to the end. A file that does not exist yet is empty.
func (l *Log) readFrom(offset int64) ([]byte, error) {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

func wholeLines(text []byte) []byte { return text[:bytes.LastIndexByte(text, '\n')+1] }

func matches(re *regexp.Regexp, text []byte) [][]string {
	var found [][]string
	for line := range bytes.Lines(text) {
		if m := re.FindStringSubmatch(string(bytes.TrimRight(line, "\r\n"))); m != nil {
			found = append(found, m)
		}
	}
	return found
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// sleep waits for d, or less where ctx ends; then it gives ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

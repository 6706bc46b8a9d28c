// Package browser drives a headless Chromium through its debugging pipe: enough to open a page, ask it things and take its
// picture.
package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// names are what Chromium is called by its packagers.
var names = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"}

// Find gives the path of a Chromium: $CHROMIUM, or one of the usual names. The error says that there is none.
func Find() (string, error) {
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path, nil
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no Chromium: none of %q is installed, and CHROMIUM names none", names)
}

// Page is a page in a browser of its own. Its methods are to be called by one goroutine.
type Page struct {
	cmd     *exec.Cmd
	dir     string // profile
	to      io.WriteCloser
	answers io.ReadCloser
	from    *bufio.Reader
	session string
	last    int // id of a command
}

// Options say how a page looks.
type Options struct {
	Width, Height int // CSS pixels
	Dark          bool
}

// Open starts the browser at that path, which ends with ctx, and opens a page at an address. Close ends it.
func Open(ctx context.Context, path, address string, o Options) (*Page, error) {
	dir, err := os.MkdirTemp("", "browser-")
	if err != nil {
		return nil, err
	}
	p := &Page{dir: dir}
	err = p.start(ctx, path)
	if err == nil {
		err = p.open(address, o)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// start runs the browser. It reads commands from descriptor 3 and answers on 4, each ended by a zero byte.
func (p *Page) start(ctx context.Context, path string) error {
	commands, to, err := os.Pipe()
	if err != nil {
		return err
	}
	defer commands.Close()
	p.to = to
	from, answers, err := os.Pipe()
	if err != nil {
		return err
	}
	defer answers.Close()
	p.answers, p.from = from, bufio.NewReader(from)
	// --no-sandbox: in a container, and as root, there is none to be had. Only our own page is opened.
	p.cmd = exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
		"--disable-dev-shm-usage", "--remote-debugging-pipe", "--user-data-dir="+filepath.Join(p.dir, "profile"), "about:blank")
	p.cmd.Env = append(os.Environ(), "TMPDIR="+p.dir)
	p.cmd.ExtraFiles = []*os.File{commands, answers}
	context.AfterFunc(ctx, func() { from.Close() }) // a read ends then
	return p.cmd.Start()
}

func (p *Page) open(address string, o Options) error {
	var target struct{ TargetID string }
	if err := p.call("Target.createTarget", object{"url": "about:blank"}, &target); err != nil {
		return err
	}
	var session struct{ SessionID string }
	if err := p.call("Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}, &session); err != nil {
		return err
	}
	p.session = session.SessionID
	scheme := "light"
	if o.Dark {
		scheme = "dark"
	}
	return errors.Join(
		p.call("Emulation.setDeviceMetricsOverride",
			object{"width": o.Width, "height": o.Height, "deviceScaleFactor": 1, "mobile": false}, nil),
		p.call("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": scheme}}}, nil),
		p.Go(address),
	)
}

// Go goes to another address. That nobody answers there is no error: the page then says so.
func (p *Page) Go(address string) error { return p.call("Page.navigate", object{"url": address}, nil) }

// Close ends the browser and removes what it left.
func (p *Page) Close() error {
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill() // an error means that it has just ended
		_ = p.cmd.Wait()
	}
	for _, pipe := range []io.Closer{p.to, p.answers} {
		if pipe != nil {
			pipe.Close()
		}
	}
	// Its helpers may still be writing.
	var err error
	for range 50 {
		if err = os.RemoveAll(p.dir); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

type object = map[string]any

// message is an answer, or an event, which has no id.
type message struct {
	ID     int
	Result json.RawMessage
	Error  *struct{ Message string }
}

// call has the browser do something, and reads its answer into result, which may be nil.
func (p *Page) call(method string, params object, result any) error {
	p.last++
	command := object{"id": p.last, "method": method, "params": params}
	if p.session != "" {
		command["sessionId"] = p.session
	}
	text, err := json.Marshal(command)
	if err != nil {
		return err
	}
	if _, err := p.to.Write(append(text, 0)); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	for {
		text, err := p.from.ReadBytes(0)
		if err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		var m message
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		switch {
		case m.ID != p.last:
		case m.Error != nil:
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		case result == nil:
			return nil
		default:
			return json.Unmarshal(m.Result, result)
		}
	}
}

// Eval gives the value of an expression in the page, waiting where it is a promise. It must have a JSON.
func (p *Page) Eval(expression string, value any) error {
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := p.call("Runtime.evaluate", object{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	if err != nil {
		return err
	}
	if e := answer.ExceptionDetails; e != nil {
		return fmt.Errorf("%s %s in %s", e.Text, e.Exception.Description, expression)
	}
	if value == nil || len(answer.Result.Value) == 0 {
		return nil
	}
	return json.Unmarshal(answer.Result.Value, value)
}

// Screenshot gives the page's picture as a PNG.
func (p *Page) Screenshot() ([]byte, error) {
	var shot struct{ Data string }
	if err := p.call("Page.captureScreenshot", object{"format": "png"}, &shot); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(shot.Data)
}

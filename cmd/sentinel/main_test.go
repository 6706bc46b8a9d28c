package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/internal/ruleserver"
)

var update = flag.Bool("update", false, "write what the commands say into docs/cli.md")

// call runs a command in the repository's root.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

var (
	console = regexp.MustCompile("(?s)```console\n(.*?)```\n")
	word    = regexp.MustCompile(`'[^']*'|\S+`)
)

// docs/cli.md shows commands and what they say.
func TestDocumentedCommands(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	const doc = "docs/cli.md"
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	got := console.ReplaceAllStringFunc(string(text), func(block string) string {
		var b strings.Builder
		b.WriteString("```console\n")
		for line := range strings.Lines(block) {
			command, ok := strings.CutPrefix(line, "$ sentinel ")
			if !ok {
				continue
			}
			var args []string
			for _, w := range word.FindAllString(strings.TrimSpace(command), -1) {
				args = append(args, strings.Trim(w, "'"))
			}
			_, stdout, stderr := call(t, args...)
			b.WriteString(line + stdout + stderr)
			n++
		}
		return b.String() + "```\n"
	})
	if n < 10 {
		t.Errorf("only %d commands", n)
	}
	if *update {
		if err := os.WriteFile(doc, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(text) {
		t.Errorf("%s is not what the commands say: go test ./cmd/sentinel -update writes it anew. They say:\n%s", doc, got)
	}
}

func TestExitCodes(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	for _, c := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"help", 0, ""},
		{"", 2, "Usage:"},
		{"chek", 2, `unknown command "chek"`},
		{"check", 2, "requires at least 1 arg"},
		{"check envoy/envoy.yaml", 0, ""},
		{"check cmd/sentinel/testdata/mistakes.yaml", 1, ""},
		{"check cmd/sentinel/testdata/warning.yaml", 0, ""},
		{"check nowhere.yaml", 1, "sentinel check: open nowhere.yaml: no such file or directory"},
		{"check -o xml envoy/envoy.yaml", 2, "must be text or json"},
		{"explain http://a/", 2, `required flag(s) "config" not set`},
		{"explain -c envoy/envoy.yaml orders", 2, `"orders" is no URL such as`},
		{"explain -c cmd/sentinel/testdata/mistakes.yaml http://a/", 1, "cmd/sentinel/testdata/mistakes.yaml:9: flowRules[1].count: must be ≥ 0"},
		{"explain -c envoy/examples/tcp.yaml http://a/", 1, "has no configuration of an HTTP filter"},
		{"convert --from nacos x", 2, "must be java or gateway or crd or opensergo"},
		{"convert --from gateway cmd/sentinel/testdata/degrade.json", 1, ""},
		{"completion bash", 0, ""},
		{"run -h", 0, "Usage of sentinel run"},
		{"load -nonsense", 2, "flag provided but not defined: -nonsense"},
	} {
		code, stdout, stderr := call(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stderr, c.stderr) {
			t.Errorf("sentinel %s: exit code %d, want %d; stdout %q, stderr %q", c.args, code, c.code, stdout, stderr)
		}
	}
}

// What convert writes is a configuration without a mistake.
func TestConvertedIsRight(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	for product, file := range map[string]string{"java": "java.json", "gateway": "gateway.json", "crd": "crd.yaml", "opensergo": "opensergo.yaml"} {
		_, out, _ := call(t, "convert", "--from", product, "cmd/sentinel/testdata/"+file)
		to := filepath.Join(t.TempDir(), "out.yaml")
		if err := os.WriteFile(to, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, _ := call(t, "check", to); code != 0 || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: %s", product, out)
		}
	}
}

// A shell completes flags' values.
func TestCompletion(t *testing.T) {
	if _, out, _ := call(t, "__complete", "convert", "--from", ""); !strings.Contains(out, "gateway") {
		t.Errorf("%q", out)
	}
}

// Rules are written to a server of each type, and again in place of what is there; wrong ones are not.
func TestConvertWritesToSources(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	server, etcd := ruleserver.Start(t, "{}"), ruleserver.StartEtcd(t)
	sources := map[string]string{
		"{type: http, path: /rules.json}": server.Addr, "{type: consul, key: shop}": server.Addr, "{type: etcd, key: /shop}": etcd.Addr,
		"{type: kubernetes, name: sentinel, key: rules.json}": server.Addr,
	}
	for source, addr := range sources {
		for range 2 {
			args := []string{"convert", "--to", "datasource", "--source", source, "--server", "http://" + addr}
			if strings.Contains(source, "kubernetes") {
				args = append(args, "--header", "Authorization: Bearer "+ruleserver.Token)
			}
			code, stdout, stderr := call(t, append(args, "--from", "java", "cmd/sentinel/testdata/java.json")...)
			if code != 0 || !strings.HasPrefix(stdout, "7 rules written to http://") || !strings.Contains(stderr, "origin, system_source") {
				t.Errorf("%s: code %d, %q, %q", source, code, stdout, stderr)
			}
			if doc := server.Text(); addr == server.Addr && !strings.Contains(doc, `"maxQueueingTimeMs":200`) {
				t.Errorf("%s: the server has %s", source, doc)
			}
		}
		if addr == server.Addr {
			server.Put("{}")
		}
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--to", "datasource", "--source", "{type: http, path: /rules.json}", "cmd/sentinel/testdata/mistakes.yaml"}, 1, "mistakes.yaml:9: flowRules[1].count: must be ≥ 0"},
		{[]string{"--to", "datasource", "--source", "{type: etcd}", "envoy/examples/datasource.yaml"}, 2, "source: key: missing"},
		{[]string{"--to", "datasource", "--source", "etcd", "envoy/examples/datasource.yaml"}, 2, "is no data source"},
		{[]string{"--to", "datasource", "envoy/examples/datasource.yaml"}, 2, "needs --source"},
		{[]string{"--source", "{}", "--from", "java", "x"}, 2, "needs --source"},
		{[]string{"--from", "java", "--to", "ratelimit", "x"}, 2, "without --from"},
		{[]string{"x"}, 2, "--from or --to"},
		{[]string{"--to", "datasource", "--source", "{type: http, path: /rules.json}", "envoy/envoy.yaml"}, 1, "configurations: the rules of one are written"},
	} {
		code, stdout, stderr := call(t, append([]string{"convert", "--server", "http://" + server.Addr}, c.args...)...)
		if len(c.args) < 4 || !slices.Contains(c.args, "--source") {
			code, stdout, stderr = call(t, append([]string{"convert"}, c.args...)...)
		}
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: code %d, %q, %q, want %d and %q", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
	if server.Text() != "{}" {
		t.Errorf("what is wrong was written: %s", server.Text())
	}
}

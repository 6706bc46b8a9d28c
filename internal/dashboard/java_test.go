package dashboard_test

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/ruleserver"
)

var withJava = flag.Bool("dashboard", false, "compare with a Java process, and with Sentinel's dashboard, which Maven fetches")

// patience is how long a Java program may take to do something.
const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(plugintest.Run(m))
}

// needsJava skips a test that was not asked for, or cannot be run.
func needsJava(t *testing.T) {
	t.Helper()
	if !*withJava {
		t.Skip("needs -dashboard, and so a JDK and Maven: make dashboard")
	}
	for _, program := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs a JDK and Maven: ", err)
		}
	}
}

// fetch has Maven fetch what a project in testdata needs, into a folder.
func fetch(t *testing.T, project string) (lib string) {
	t.Helper()
	lib = filepath.Join(t.TempDir(), "lib")
	run(t, "mvn", "-q", "-B", "-f", filepath.Join("testdata", project, "pom.xml"), "dependency:copy-dependencies", "-DoutputDirectory="+lib)
	return lib
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(envoytest.Context(t, patience), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// start starts a program until the test's end, which shows what it wrote where the test has failed.
func start(t *testing.T, name string, args ...string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text, err := os.ReadFile(file.Name()); t.Failed() && err == nil {
			t.Logf("%s wrote:\n%.8000s", name, text)
		}
		file.Close()
	})
}

// javaAgent starts a Java process with one busy resource, and gives the URL of its commands.
func javaAgent(t *testing.T) string {
	t.Helper()
	lib, classes := fetch(t, "agent"), t.TempDir()
	run(t, "javac", "-d", classes, "-cp", lib+"/*", "testdata/agent/Agent.java")
	addr := ruleserver.FreeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	start(t, "java", "-Xmx200m", "-cp", classes+":"+lib+"/*", "-Dcsp.sentinel.api.port="+port, "-Dcsp.sentinel.log.dir="+t.TempDir(),
		"-Dproject.name=busy", "Agent")
	url := "http://127.0.0.1:" + port
	envoytest.Eventually(t, patience, "the Java process answers", func() bool { return get(t, url+"/version").body != "" })
	return url
}

// javaDashboard starts Sentinel's dashboard, and gives its URL and the folder of what its pages need.
func javaDashboard(t *testing.T) (url, lib string) {
	t.Helper()
	lib = fetch(t, "dashboard")
	port := envoytest.PortOf(t, ruleserver.FreeAddr(t))
	own := envoytest.PortOf(t, ruleserver.FreeAddr(t)) // it is a process with commands itself
	args := []string{"-Xmx300m"}
	for _, pkg := range []string{"java.lang", "java.util", "java.lang.reflect", "java.math"} {
		args = append(args, "--add-opens", "java.base/"+pkg+"=ALL-UNNAMED")
	}
	start(t, "java", append(args, "-Duser.home="+t.TempDir(), fmt.Sprint("-Dcsp.sentinel.api.port=", own), "-jar",
		lib+"/sentinel-dashboard-0.1.1.jar", fmt.Sprint("--server.port=", port), "--server.address=127.0.0.1")...)
	url = fmt.Sprint("http://127.0.0.1:", port)
	envoytest.Eventually(t, patience, "the dashboard answers", func() bool { return get(t, url+"/app/briefinfos.json").status == 200 })
	return url, lib
}

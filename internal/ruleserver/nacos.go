package ruleserver

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// nacosProject makes Maven fetch Nacos' configuration server, and what it needs.
const nacosProject = `<project><modelVersion>4.0.0</modelVersion><groupId>t</groupId><artifactId>t</artifactId><version>1</version>
<dependencies><dependency><groupId>com.alibaba.nacos</groupId><artifactId>nacos-config</artifactId><version>0.8.0</version>
</dependency></dependencies></project>`

// Nacos is a configuration server of Nacos.
type Nacos struct {
	Addr string
	cmd  *exec.Cmd
}

// StartNacos starts Nacos until the test's end. The test is skipped where Maven or Java is missing, or Maven finds it nowhere.
func StartNacos(t testing.TB) *Nacos {
	t.Helper()
	for _, tool := range []string{"mvn", "java", "jar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no Nacos without %s: %v", tool, err)
		}
	}
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "pom.xml"), []byte(nacosProject), 0o600); err != nil {
		t.Fatal(err)
	}
	fetch := exec.CommandContext(envoytest.Context(t, patience), "mvn", "-q", "-B", "dependency:copy-dependencies",
		"-DoutputDirectory=lib")
	fetch.Dir = home
	if out, err := fetch.CombinedOutput(); err != nil {
		t.Skipf("Maven does not find Nacos: %v\n%.500s", err, out)
	}
	schema := exec.CommandContext(envoytest.Context(t, patience), "sh", "-c",
		"mkdir conf && cd conf && jar xf ../lib/nacos-config-0.8.0.jar META-INF/schema.sql && mv META-INF/schema.sql .")
	schema.Dir = home
	if out, err := schema.CombinedOutput(); err != nil {
		t.Skipf("no schema: %v\n%s", err, out)
	}
	n := &Nacos{Addr: FreeAddr(t)}
	n.run(t, home)
	return n
}

func (n *Nacos) run(t testing.TB, home string) {
	t.Helper()
	port := envoytest.PortOf(t, n.Addr)
	n.cmd = exec.Command("java", "-Xmx300m", "--add-opens", "java.base/java.lang=ALL-UNNAMED",
		"--add-opens", "java.base/java.util=ALL-UNNAMED", "--add-opens", "java.base/java.lang.reflect=ALL-UNNAMED",
		"-Duser.home="+home, "-Dnacos.home="+home, "-Dnacos.standalone=true",
		"-Dnacos.server.ip=127.0.0.1", "-cp", "lib/*", "com.alibaba.nacos.config.server.Config", fmt.Sprint("--server.port=", port),
		"--server.address=127.0.0.1", "--server.servlet.contextPath=/nacos")
	n.cmd.Dir = home
	log, err := os.Create(filepath.Join(home, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
	})
	envoytest.Eventually(t, patience, "Nacos publishes and serves", func() bool {
		return n.put("ready", "DEFAULT_GROUP", "yes") == nil &&
			get("http://"+n.Addr+"/nacos/v1/cs/configs?dataId=ready&group=DEFAULT_GROUP") == nil
	})
}

// Put publishes a configuration.
func (n *Nacos) Put(t testing.TB, dataID, group, content string) {
	t.Helper()
	if err := n.put(dataID, group, content); err != nil {
		t.Fatal(err)
	}
}

func (n *Nacos) put(dataID, group, content string) error {
	client := http.Client{Timeout: 10 * time.Second}
	form := url.Values{"dataId": {dataID}, "group": {group}, "content": {content}}
	answer, err := client.PostForm("http://"+n.Addr+"/nacos/v1/cs/configs", form)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("Nacos answers %s", answer.Status)
	}
	return nil
}

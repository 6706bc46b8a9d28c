package vm

import (
	"errors"
	"strconv"
	"strings"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
)

// askStore does what is due for the counts that outlive the process. An answer comes to the context whose tick it is.
func (d *Dispatcher) askStore(now int64) {
	d.engine.AskStore(now, func(a *engine.StoreAsk) error {
		path, err := pathOf(a.Path)
		if err != nil {
			return err
		}
		headers := [][2]string{{":method", a.Method}, {":path", path}, {":authority", a.Authority}}
		if a.Method == "PUT" {
			headers = append(headers, [2]string{"content-type", "application/octet-stream"})
		}
		err = envoyhost.CallHTTP(a.Cluster, headers, a.Body, a.TimeoutMs, func(headers, size int) {
			defer recoverPanic(func(err error) { d.engine.Fault("keeping counts", err) })
			answer, err := readAnswer(headers, size)
			d.engine.StoreAnswered(a, answer, err, envoyhost.Now())
		})
		if err != nil {
			return errors.New("cluster " + strconv.Quote(a.Cluster) + ": " + err.Error())
		}
		return nil
	})
}

var nodeID = []string{"xds", "node", "id"}

// pathOf is a path with Envoy's node.id in its place. Of what a path has as itself, only what no server reads as more stays.
func pathOf(path string) (string, error) {
	if !strings.Contains(path, config.NodePlace) {
		return path, nil
	}
	id, _ := envoyhost.Text(nodeID)
	if id == "" {
		return "", errors.New("the path has " + config.NodePlace + ", and Envoy no node.id")
	}
	const hex = "0123456789ABCDEF"
	var escaped []byte
	for i := range len(id) {
		c := id[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '~' ||
			c == '.' && i > 0 {
			escaped = append(escaped, c)
			continue
		}
		escaped = append(escaped, '%', hex[c>>4], hex[c&15])
	}
	return strings.ReplaceAll(path, config.NodePlace, string(escaped)), nil
}

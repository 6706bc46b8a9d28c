package vm

import (
	"errors"
	"strings"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/percent"
	"sentinel-envoy/shared/source"
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
		c := call{cluster: a.Cluster, headers: headers, body: a.Body, timeoutMs: a.TimeoutMs}
		c.fault = func(err error) { d.engine.Fault("keeping counts", err) }
		return c.make(func(answer source.Response, err error) { d.engine.StoreAnswered(a, answer, err, envoyhost.Now()) })
	})
}

var nodeID = []string{"xds", "node", "id"}

// pathOf is a path with Envoy's node.id in its place, which no server reads as more than one step.
func pathOf(path string) (string, error) {
	if !strings.Contains(path, config.NodePlace) {
		return path, nil
	}
	id, _ := envoyhost.Text(nodeID)
	if id == "" {
		return "", errors.New("the path has " + config.NodePlace + ", and Envoy no node.id")
	}
	escaped := percent.Append(nil, id, &percent.Unreserved)
	if id[0] == '.' { // no step up
		escaped = append(percent.AppendByte(nil, '.'), escaped[1:]...)
	}
	return strings.ReplaceAll(path, config.NodePlace, string(escaped)), nil
}

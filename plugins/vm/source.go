package vm

import (
	"fmt"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
)

// maxAnswer bounds how much of a source's answer is read, in bytes.
const maxAnswer = 4 << 20

// askSource asks for the figures of the machine when it is this filter's turn. The answer comes to the context whose tick
// it is.
func (p *plugin) askSource(now int64) {
	source, due := p.engine.AskSource(now)
	if !due {
		return
	}
	headers := [][2]string{
		{":method", "GET"}, {":path", source.Path}, {":authority", source.Authority}, {"accept", "text/plain"},
	}
	_, err := proxywasm.DispatchHttpCall(source.Cluster, headers, nil, nil, source.IntervalMs, p.answered)
	if err != nil {
		p.engine.Answered(nil, fmt.Errorf("cluster %q: %w", source.Cluster, err), now)
	}
}

// answered is called with a source's answer, or with none where the call has failed.
func (p *plugin) answered(headers, size, _ int) {
	defer func() {
		if r := recover(); r != nil {
			p.vm.engine.Fault("reading system_source", fmt.Errorf("panic: %v", r))
		}
	}()
	answer, err := readAnswer(headers, size)
	p.engine.Answered(answer, err, p.vm.host.Now())
}

func readAnswer(headers, size int) ([]byte, error) {
	if headers == 0 {
		return nil, fmt.Errorf("no answer")
	}
	list, err := proxywasm.GetHttpCallResponseHeaders()
	if err != nil {
		return nil, err
	}
	for _, h := range list {
		if h[0] == ":status" && h[1] != "200" {
			return nil, fmt.Errorf("status %s", h[1])
		}
	}
	if size > maxAnswer {
		return nil, fmt.Errorf("an answer of %d bytes", size)
	}
	return proxywasm.GetHttpCallResponseBody(0, size)
}

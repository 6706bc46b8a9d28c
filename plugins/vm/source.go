package vm

import (
	"errors"
	"strconv"

	"sentinel-envoy/plugins/envoyhost"
)

// maxAnswer bounds how much of a source's answer is read, in bytes.
const maxAnswer = 4 << 20

// askSource asks for the figures of the machine when it is this filter's turn. The answer comes to the context whose tick
// it is.
func (p *Plugin) askSource(now int64) {
	source, due := p.AskSource(now)
	if !due {
		return
	}
	headers := [][2]string{
		{":method", "GET"}, {":path", source.Path}, {":authority", source.Authority}, {"accept", "text/plain"},
	}
	if err := envoyhost.CallHTTP(source.Cluster, headers, source.IntervalMs, p.onSourceAnswer); err != nil {
		p.Answered(nil, errors.New("cluster "+strconv.Quote(source.Cluster)+": "+err.Error()), now)
	}
}

// onSourceAnswer is called with a source's answer, or with none where the call has failed.
func (p *Plugin) onSourceAnswer(headers, size int) {
	defer recoverPanic(func(err error) { p.Fault("reading system_source", err) })
	answer, err := readAnswer(headers, size)
	p.Answered(answer, err, envoyhost.Now())
}

func readAnswer(headers, size int) ([]byte, error) {
	if headers == 0 {
		return nil, errors.New("no answer")
	}
	list, err := envoyhost.CallHeaders()
	if err != nil {
		return nil, err
	}
	for _, h := range list {
		if h[0] == ":status" && h[1] != "200" {
			return nil, errors.New("status " + h[1])
		}
	}
	if size > maxAnswer {
		return nil, errors.New("an answer of " + strconv.Itoa(size) + " bytes")
	}
	return envoyhost.CallBody(size)
}

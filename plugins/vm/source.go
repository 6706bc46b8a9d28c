package vm

import (
	"errors"
	"strconv"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/source"
)

// maxAnswer bounds how much of an answer is read, in bytes: a document in JSON or base64 is longer than itself.
const maxAnswer = 2 * source.MaxText

// askSource asks for the figures of the machine when it is this filter's turn. The answer comes to the context whose tick
// it is.
func (p *Plugin) askSource(now int64) {
	from, due := p.AskSource(now)
	if !due {
		return
	}
	headers := [][2]string{
		{":method", "GET"}, {":path", from.Path}, {":authority", from.Authority}, {"accept", "text/plain"},
	}
	if err := envoyhost.CallHTTP(from.Cluster, headers, "", from.IntervalMs, p.onSourceAnswer); err != nil {
		p.Answered(nil, errors.New("cluster "+strconv.Quote(from.Cluster)+": "+err.Error()), now)
	}
}

// onSourceAnswer is called with a source's answer, or with none where the call has failed.
func (p *Plugin) onSourceAnswer(headers, size int) {
	defer recoverPanic(func(err error) { p.Fault("reading system_source", err) })
	answer, err := readAnswer(headers, size)
	if err == nil && answer.Status != 200 {
		err = errors.New("status " + strconv.Itoa(answer.Status))
	}
	p.Answered(answer.Body, err, envoyhost.Now())
}

// readAnswer is the answer that a call has got, with its body where the status is 200.
func readAnswer(headers, size int) (answer source.Response, err error) {
	if headers == 0 {
		return answer, errors.New("no answer")
	}
	if answer.Headers, err = envoyhost.CallHeaders(); err != nil {
		return answer, err
	}
	for _, h := range answer.Headers {
		if h[0] == ":status" {
			answer.Status, _ = strconv.Atoi(h[1])
		}
	}
	switch {
	case answer.Status != 200 || size == 0:
		return answer, nil
	case size > maxAnswer:
		return answer, errors.New("an answer of " + strconv.Itoa(size) + " bytes")
	}
	answer.Body, err = envoyhost.CallBody(size)
	return answer, err
}

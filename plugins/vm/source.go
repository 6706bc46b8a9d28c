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
	c := call{cluster: from.Cluster, headers: headers, timeoutMs: from.IntervalMs}
	c.fault = func(err error) { p.Fault("reading system_source", err) }
	if err := c.make(p.onSourceAnswer); err != nil {
		p.Answered(nil, err, now)
	}
}

// onSourceAnswer takes a source's answer, or why there is none.
func (p *Plugin) onSourceAnswer(answer source.Response, err error) {
	if err == nil && answer.Status != 200 {
		err = errors.New("status " + strconv.Itoa(answer.Status))
	}
	p.Answered(answer.Body, err, envoyhost.Now())
}

// call is a request to a cluster over HTTP. fault is told of a panic of whoever takes the answer.
type call struct {
	cluster   string
	headers   [][2]string
	body      string
	timeoutMs uint32
	fault     func(error)
}

// make makes the call. answered is called with its answer, or with why there is none, in the context whose tick it is. An error, with
// which it is not called, says which cluster.
func (c *call) make(answered func(answer source.Response, err error)) error {
	err := envoyhost.CallHTTP(c.cluster, c.headers, c.body, c.timeoutMs, func(headers, size int) {
		defer recoverPanic(c.fault)
		answered(readAnswer(headers, size))
	})
	if err != nil {
		return errors.New("cluster " + strconv.Quote(c.cluster) + ": " + err.Error())
	}
	return nil
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

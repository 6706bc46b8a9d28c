//go:build !wasip1

package envoyhost

import (
	"encoding/binary"
	"errors"
	"strings"

	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/host/memhost"
)

// Recorder takes Envoy's place in native tests: it has what a test says of Envoy's streams, and writes down what plugins
// did. Shared data, queues, the clock, metrics and the log are those of one worker of a memhost.Process.
type Recorder struct {
	*memhost.Process
	Worker *memhost.Worker
	// Before, where set, is called before each call by the call's name in this package, in lower camel case, and before
	// each of those of host.Host as "host". It may panic; what it returns is the call's error.
	Before func(call string) error
	// Plugins and Streams are those there have been, by the ids of their contexts.
	Plugins map[uint32]*RecordedPlugin
	Streams map[uint32]*RecordedStream
	// Node is Envoy's node.id.
	Node string
	// Critical are the messages of that level. The others are the Worker's.
	Critical []string
	// Counts are the calls there have been, by their names as Before has them, those of host.Host by its methods'. A call that
	// returned bytes, which is dear, has " bytes" after its name.
	Counts map[string]int
	// Calls are the HTTP calls, in their order, and RPCs those by gRPC, by their tokens.
	Calls []*RecordedCall
	RPCs  map[uint32]*RecordedRPC

	vm        VM
	vmConfig  string
	effective uint32
	answering *RecordedCall
	rpc       []byte
	lent      [][]byte
}

// RecordedPlugin is a plugin.
type RecordedPlugin struct {
	Name, RootID, Configuration string
	// TickPeriods are those that were set, in milliseconds.
	TickPeriods []uint32
	plugin      Plugin
}

// RecordedStream is a request or a connection: what a test says of it, and what the plugin did to it.
type RecordedStream struct {
	Request, Response, Trailers map[string]string
	// More are the further lines of request headers.
	More map[string][]string
	// Properties are as Envoy encodes them, by their paths with dots between the parts.
	Properties map[string]string

	Answers  []Answer
	Resumed  int
	Closed   int
	Replaced []string
	State    map[string]string
	plugin   uint32
}

// Answer is a response that a plugin has sent.
type Answer struct {
	Status     uint32
	Headers    [][2]string
	Body       string
	GRPCStatus int32
	Details    string
}

// RecordedCall is an HTTP call.
type RecordedCall struct {
	Cluster   string
	Headers   [][2]string
	Body      string
	TimeoutMs uint32
	answered  func(headers, size int)
	headers   [][2]string
	body      string
}

// RecordedRPC is a call by gRPC.
type RecordedRPC struct {
	Cluster, Service, Method string
	Message                  []byte
	TimeoutMs                uint32
}

// recorder is the one that calls go to.
var recorder = newRecorder()

// Record returns a new Recorder, to which all calls go from now on. The monotonic clock stands at one hour.
func Record() *Recorder {
	recorder = newRecorder()
	return recorder
}

func newRecorder() *Recorder {
	r := &Recorder{
		Process: memhost.NewProcess(3600e9), Plugins: map[uint32]*RecordedPlugin{}, Streams: map[uint32]*RecordedStream{},
		Counts: map[string]int{}, RPCs: map[uint32]*RecordedRPC{},
	}
	clear(rpcs)
	r.Worker = r.Process.Worker(func() { _ = r.before("host") })
	return r
}

// StartVM does what Envoy does with the VM that was registered.
func (r *Recorder) StartVM(configuration string) bool {
	r.vmConfig = configuration
	return r.vm.OnStart(len(configuration))
}

// StartPlugin does what Envoy does with a new plugin once its context was created.
func (r *Recorder) StartPlugin(context uint32, rootID, configuration string) bool {
	p := r.Plugins[context]
	p.RootID, p.Configuration = rootID, configuration
	r.effective = context
	return p.plugin.OnStart(len(configuration))
}

// Tick lets a plugin have its tick.
func (r *Recorder) Tick(context uint32) {
	r.effective = context
	r.Plugins[context].plugin.OnTick()
}

// AddStream makes a stream of a plugin.
func (r *Recorder) AddStream(context, plugin uint32) *RecordedStream {
	s := &RecordedStream{
		Request: map[string]string{}, More: map[string][]string{}, Response: map[string]string{}, Trailers: map[string]string{},
		Properties: map[string]string{}, State: map[string]string{}, plugin: plugin,
	}
	r.Streams[context] = s
	return s
}

// EnterContext makes a context the effective one, as Envoy does before a callback about a stream.
func (r *Recorder) EnterContext(context uint32) { r.effective = context }

// AnswerCall answers an HTTP call; without headers, it has failed.
func (r *Recorder) AnswerCall(c *RecordedCall, headers [][2]string, body string) {
	c.headers, c.body = headers, body
	r.answering = c
	c.answered(len(headers), len(body))
	r.answering = nil
}

// Integer is a number as Envoy encodes it in a property.
func Integer(n int64) string { return string(binary.LittleEndian.AppendUint64(nil, uint64(n))) }

func (r *Recorder) before(call string) error {
	if call != "host" {
		r.Counts[call]++
	}
	if r.Before == nil {
		return nil
	}
	return r.Before(call)
}

// errContext is the error of a call that is not for the effective context.
var errContext = errors.New("recorder: not in this context")

// inStream makes a call about the effective stream.
func inStream(call string, do func(s *RecordedStream)) error {
	if err := recorder.before(call); err != nil {
		return err
	}
	s := recorder.Streams[recorder.effective]
	if s == nil {
		return errContext
	}
	do(s)
	return nil
}

func register(vm VM) { recorder.vm = vm }

func createPlugin(context uint32) {
	recorder.Plugins[context] = &RecordedPlugin{plugin: recorder.vm.NewPlugin(context)}
}

func endPlugin(context uint32) {
	recorder.effective = context
	recorder.Plugins[context].plugin.OnDone()
}

// returned says that the call just counted has returned bytes.
func (r *Recorder) returned(call string) {
	r.Counts[call]--
	r.Counts[call+" bytes"]++
}

func monotonic() int64 { return NewHost().Now() }

func logAt(level host.Level, message string) { recorder.Worker.Log(level, message) }

func logCritical(message string) { recorder.Critical = append(recorder.Critical, message) }

// Begin is called at the beginning of each callback about a stream. What the callback before was lent is void: whoever has kept
// it reads rubbish, as on a real host.
func Begin() {
	for _, b := range recorder.lent {
		for i := range b {
			b[i] = 0xff
		}
	}
	recorder.lent = recorder.lent[:0]
}

// lend returns what the host lends to the callback that is running.
func lend(text string) []byte {
	b := []byte(text)
	recorder.lent = append(recorder.lent, b)
	return b
}

func vmConfiguration() ([]byte, error) {
	return configuration("vmConfiguration", recorder.vmConfig)
}

func pluginConfiguration() ([]byte, error) {
	return configuration("pluginConfiguration", recorder.Plugins[recorder.effective].Configuration)
}

// configuration is what a call for it returns: Envoy has no empty one.
func configuration(call, text string) ([]byte, error) {
	if err := recorder.before(call); err != nil {
		return nil, err
	}
	if text == "" {
		return nil, host.ErrNotFound
	}
	return []byte(text), nil
}

func setTickPeriod(ms uint32) error {
	if err := recorder.before("setTickPeriod"); err != nil {
		return err
	}
	context := recorder.effective
	if s := recorder.Streams[context]; s != nil {
		context = s.plugin
	}
	p := recorder.Plugins[context]
	p.TickPeriods = append(p.TickPeriods, ms)
	return nil
}

func setEffectiveContext(context uint32) error {
	if err := recorder.before("setEffectiveContext"); err != nil {
		return err
	}
	if recorder.Streams[context] == nil && recorder.Plugins[context] == nil {
		return errContext
	}
	recorder.effective = context
	return nil
}

func header(kind headers, name string) (value []byte, st status) {
	st = notFound
	_ = inStream("header", func(s *RecordedStream) {
		if text, there := s.mapOf(kind)[name]; there {
			value, st = lend(text), ok
			recorder.returned("header")
		}
	})
	return value, st
}

// mapOf are the headers of a stream of one kind.
func (s *RecordedStream) mapOf(kind headers) map[string]string {
	return map[headers]map[string]string{requestHeaders: s.Request, responseHeaders: s.Response, responseTrailers: s.Trailers}[kind]
}

func setHeader(kind headers, name string, value []byte) error {
	return inStream("setHeader", func(s *RecordedStream) {
		s.mapOf(kind)[name] = string(value)
		if kind == requestHeaders {
			delete(s.More, name)
		}
	})
}

func removeHeader(kind headers, name string) error {
	return inStream("removeHeader", func(s *RecordedStream) {
		delete(s.mapOf(kind), name)
		if kind == requestHeaders {
			delete(s.More, name)
		}
	})
}

func headerPairs(kind headers) (pairs []byte, st status) {
	st = notFound
	_ = inStream("headerPairs", func(s *RecordedStream) {
		if kind != requestHeaders {
			return
		}
		var all []string
		for name, value := range s.Request {
			all = append(all, name, value)
			for _, line := range s.More[name] {
				all = append(all, name, line)
			}
		}
		pairs, st = lend(string(encodePairs(all))), ok
		recorder.returned("headerPairs")
	})
	return pairs, st
}

// encodePairs encodes names and values, in turn, as the host does.
func encodePairs(all []string) []byte {
	var m HeaderMap
	for i := 0; i < len(all); i += 2 {
		m.Add(all[i], all[i+1])
	}
	return m.encode()
}

func property(path []byte) (value []byte, st status) {
	name := strings.ReplaceAll(string(path), "\x00", ".")
	if p := recorder.Plugins[recorder.effective]; p != nil && name == "plugin_root_id" && recorder.before("property") == nil {
		return []byte(p.RootID), ok
	}
	if p := recorder.Plugins[recorder.effective]; p != nil && name == "plugin_name" {
		return []byte(p.Name), ok
	}
	if recorder.Node != "" && name == "xds.node.id" {
		return lend(recorder.Node), ok
	}
	st = notFound
	_ = inStream("property", func(s *RecordedStream) {
		if text, there := s.Properties[name]; there {
			value, st = lend(text), ok
		}
		header, ofRequest := strings.CutPrefix(name, "request.headers.")
		if text, there := s.Request[header]; ofRequest && there {
			value, st = lend(strings.Join(append([]string{text}, s.More[header]...), ",")), ok
		}
	})
	if st == ok {
		recorder.returned("property")
	}
	return value, st
}

func setProperty(name string, value []byte) error {
	return inStream("setProperty", func(s *RecordedStream) { s.State[name] = string(value) })
}

func sendResponse(status uint32, details, headers, body []byte, grpcStatus int32) error {
	return inStream("sendResponse", func(s *RecordedStream) {
		answer := Answer{Status: status, Body: string(body), GRPCStatus: grpcStatus, Details: string(details)}
		p := openPairs(headers)
		for name, value, there := p.next(); there; name, value, there = p.next() {
			answer.Headers = append(answer.Headers, [2]string{string(name), string(value)})
		}
		s.Answers = append(s.Answers, answer)
	})
}

func resumeRequest() error { return inStream("resumeRequest", func(s *RecordedStream) { s.Resumed++ }) }

func resumeConnection() error {
	return inStream("resumeConnection", func(s *RecordedStream) { s.Resumed++ })
}

func closeDownstream() error {
	return inStream("closeDownstream", func(s *RecordedStream) { s.Closed++ })
}

func replaceUpstreamData(data []byte) error {
	return inStream("replaceUpstreamData", func(s *RecordedStream) { s.Replaced = append(s.Replaced, string(data)) })
}

func callHTTP(
	cluster string, headers [][2]string, body string, timeoutMs uint32, answered func(headers, size int),
) error {
	if err := recorder.before("callHTTP"); err != nil {
		return err
	}
	c := &RecordedCall{Cluster: cluster, Headers: headers, Body: body, TimeoutMs: timeoutMs, answered: answered}
	recorder.Calls = append(recorder.Calls, c)
	return nil
}

// AnswerRPC is Envoy's callback about the answer to a call by gRPC, but for what the VM does around it.
func (r *Recorder) AnswerRPC(answer []byte) { r.rpc = answer }

// Call implements host.RPC.
func (h *Host) Call(
	cluster, service, method string, message []byte, timeoutMs uint32, answered func(answer []byte, err error),
) error {
	if err := recorder.before("call"); err != nil {
		return err
	}
	token := uint32(len(recorder.RPCs) + 1)
	recorder.RPCs[token] = &RecordedRPC{cluster, service, method, append([]byte(nil), message...), timeoutMs}
	rpcs[token] = answered
	return nil
}

func rpcAnswer(size int) ([]byte, error) { return recorder.rpc[:size], recorder.before("rpcAnswer") }

func callHeaders() ([][2]string, error) {
	err := recorder.before("callHeaders")
	return recorder.answering.headers, err
}

func callBody(size int) ([]byte, error) {
	err := recorder.before("callBody")
	return []byte(recorder.answering.body[:size]), err
}

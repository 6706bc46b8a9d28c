// Package source speaks the protocols of the servers that rules come from: what to ask a server next, and what its answer
// says. It is pure: it knows no connection, no clock and no rules.
package source

import (
	"errors"
	"strconv"
	"strings"

	"sentinel-envoy/shared/config"
)

const (
	// MaxText is how long a document may be, in bytes.
	MaxText = 4 << 20
	// MaxMark is how long a mark may be, in bytes.
	MaxMark = 128
	// longPollMs is for how long a server is asked to wait for news, in milliseconds, and spareMs how much longer it may take:
	// Consul adds up to a sixteenth of it.
	longPollMs, spareMs = 30_000, 2_000
)

// Request is what to send to a server. Its cluster, authority and time-out are the origin's.
type Request struct {
	Method, Path string
	Headers      [][2]string // besides :method, :path and :authority
	Body         string
	// PatienceMs is how much longer than its time-out an answer may take, because the server waits for news, in milliseconds.
	PatienceMs uint32
}

// Response is a server's answer. Names of headers are in lower case.
type Response struct {
	Status  int
	Headers [][2]string
	Body    []byte
}

// header is the first header of that name, "" where there is none.
func (r *Response) header(name string) string {
	for _, h := range r.Headers {
		if h[0] == name {
			return h[1]
		}
	}
	return ""
}

// News is what an answer says of a document.
type News int

// The news.
const (
	// Unchanged means that the document is the one that was read last.
	Unchanged News = iota
	// Text means that the answer has the document.
	Text
	// Again means that the document has changed, and the server is to be asked for it at once.
	Again
)

// Answer is what a server has said.
type Answer struct {
	News News
	// Text is the document, where the answer has it.
	Text []byte
	// Mark is that of the document, to be given to the next Ask; "" where the server gives none.
	Mark string
}

// protocol is how one type of server is spoken to. ask is given the mark of the document that was read last, "" for none; read
// is given the same, and an answer with the status 200 that is no longer than MaxText allows.
type protocol interface {
	ask(o *config.Origin, mark string) Request
	read(o *config.Origin, mark string, r *Response) (Answer, error)
}

var protocols = [...]protocol{
	config.SourceHTTP: file{}, config.SourceNacos: nacos{}, config.SourceEtcd: etcd{}, config.SourceConsul: consul{},
	config.SourceKubernetes: kubernetes{},
}

// Ask is what to ask an origin whose document was read last with that mark, "" if never.
func Ask(o *config.Origin, mark string) Request { return protocols[o.Type].ask(o, mark) }

// errAbsent means that there is no document. That is not the same as one without rules: what deletes a document by mistake
// must not lift every limit.
var errAbsent = errors.New("there is no such document; to have no rules store {}, or [] for one family's list")

// Read is what the answer to such an Ask says, or why it says nothing.
func Read(o *config.Origin, mark string, r *Response) (Answer, error) {
	switch {
	case r.Status == 304 && o.Type == config.SourceHTTP && mark != "":
		return Answer{News: Unchanged, Mark: mark}, nil
	case r.Status == 404:
		return Answer{}, errors.New("status 404: " + errAbsent.Error())
	case r.Status == 401 || r.Status == 403:
		return Answer{}, errors.New("status " + strconv.Itoa(r.Status) + ": credentials are for Envoy to add, in the cluster")
	case r.Status == 304:
		return Answer{}, errors.New("status 304, though nothing was asked for on a condition")
	case r.Status >= 300 && r.Status < 400:
		return Answer{}, errors.New("status " + strconv.Itoa(r.Status) + ": redirects are not followed")
	case r.Status != 200:
		return Answer{}, errors.New("status " + strconv.Itoa(r.Status))
	}
	a, err := protocols[o.Type].read(o, mark, r)
	if len(a.Text) > MaxText {
		return Answer{}, errors.New("a document of " + strconv.Itoa(len(a.Text)) + " bytes, more than " + strconv.Itoa(MaxText))
	}
	if len(a.Mark) > MaxMark {
		a.Mark = "" // asked without it, the server sends the document again
	}
	return a, err
}

// file is a document that a GET answers with, by its ETag or the time of its last change.
type file struct{}

const etagMark, timeMark = "E", "T"

func (file) ask(o *config.Origin, mark string) Request {
	r := Request{Method: "GET", Path: o.Path, Headers: [][2]string{{"accept", "application/json, */*;q=0.5"}}}
	if etag, ok := strings.CutPrefix(mark, etagMark); ok {
		r.Headers = append(r.Headers, [2]string{"if-none-match", etag})
	}
	if time, ok := strings.CutPrefix(mark, timeMark); ok {
		r.Headers = append(r.Headers, [2]string{"if-modified-since", time})
	}
	return r
}

func (file) read(_ *config.Origin, _ string, r *Response) (Answer, error) {
	a := Answer{News: Text, Text: r.Body}
	if etag := r.header("etag"); etag != "" {
		a.Mark = etagMark + etag
	} else if time := r.header("last-modified"); time != "" {
		a.Mark = timeMark + time
	}
	return a, nil
}

// consul is a key of Consul. A blocking query by the index of the last answer waits until there is a greater one; one that
// has become less begins anew.
type consul struct{}

func (consul) ask(o *config.Origin, mark string) Request {
	r := Request{Method: "GET", Path: "/v1/kv/" + escapePath(strings.TrimPrefix(o.Key, "/")) + "?raw"}
	if mark != "" {
		r.Path += "&index=" + mark + "&wait=" + strconv.Itoa(longPollMs/1000) + "s"
		r.PatienceMs = longPollMs + spareMs
	}
	return r
}

func (consul) read(_ *config.Origin, mark string, r *Response) (Answer, error) {
	index := r.header("x-consul-index")
	n, err := strconv.ParseUint(index, 10, 64)
	if err != nil || n == 0 {
		return Answer{News: Text, Text: r.Body}, nil // not to be waited for
	}
	if before, _ := strconv.ParseUint(mark, 10, 64); n < before {
		index = ""
	}
	if index == mark && mark != "" {
		return Answer{News: Unchanged, Mark: mark}, nil
	}
	return Answer{News: Text, Text: r.Body, Mark: index}, nil
}

package source

import (
	"encoding/base64"
	"errors"
	"strconv"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/config"
)

// etcd is a key of etcd, by its JSON gateway: its value is sent only where the key was modified since the last answer.
type etcd struct{}

func (etcd) ask(o *config.Origin, mark string) Request {
	body := `{"key":"` + base64.StdEncoding.EncodeToString([]byte(o.Key)) + `"`
	if revision, err := strconv.ParseInt(mark, 10, 64); err == nil {
		body += `,"min_mod_revision":"` + strconv.FormatInt(revision+1, 10) + `"`
	}
	return Request{
		Method: "POST", Path: "/v3/kv/range", Body: body + "}", Headers: [][2]string{{"content-type", "application/json"}},
	}
}

// read knows three answers without a value: the key was not modified since; it is not there; or the whole store is older
// than what was read of it last, because it was restored from a copy.
func (etcd) read(_ *config.Origin, mark string, r *Response) (Answer, error) {
	revision, ok := number(r.Body, "header", "revision")
	if !ok {
		return Answer{}, errors.New("no answer of etcd's: it has no header.revision")
	}
	last, err := strconv.ParseInt(mark, 10, 64)
	conditional := err == nil
	if conditional && revision < last {
		return Answer{News: Again}, nil
	}
	modified, there := number(r.Body, "kvs", "[0]", "mod_revision")
	if there {
		value, err := decoded(r.Body, "kvs", "[0]", "value")
		return Answer{News: Text, Text: value, Mark: strconv.FormatInt(modified, 10)}, err
	}
	if count, _ := number(r.Body, "count"); count == 0 || !conditional {
		return Answer{}, errAbsent
	}
	return Answer{News: Unchanged, Mark: mark}, nil
}

// number is a whole number at a place, which etcd writes as a string.
func number(body []byte, place ...string) (int64, bool) {
	raw, _, _, err := jsonparser.Get(body, place...)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil
}

// decoded is a text at a place that is written in base64. One that is not there is empty.
func decoded(body []byte, place ...string) ([]byte, error) {
	raw, typ, _, err := jsonparser.Get(body, place...)
	if err != nil || typ == jsonparser.NotExist {
		return nil, nil
	}
	text := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := base64.StdEncoding.Decode(text, raw)
	if err != nil {
		return nil, errors.New("the value is not in base64: " + err.Error())
	}
	return text[:n], nil
}

// kubernetes is a key of a ConfigMap. The API has no conditional GET: what has changed, the text's hash tells.
type kubernetes struct{}

func (kubernetes) ask(o *config.Origin, _ string) Request {
	return Request{
		Method: "GET", Path: "/api/v1/namespaces/" + escapePath(o.Namespace) + "/configmaps/" + escapePath(o.Name),
		Headers: [][2]string{{"accept", "application/json"}},
	}
}

func (kubernetes) read(o *config.Origin, _ string, r *Response) (Answer, error) {
	if kind, ok := text(r.Body, "kind"); !ok || kind != "ConfigMap" {
		return Answer{}, errors.New("the answer is no ConfigMap")
	}
	value, ok := text(r.Body, "data", o.Key)
	if !ok {
		return Answer{}, errors.New("data has no text " + strconv.Quote(o.Key) + ": " + errAbsent.Error())
	}
	return Answer{News: Text, Text: []byte(value)}, nil
}

// text is a string at a place, and whether there is one.
func text(body []byte, place ...string) (string, bool) {
	raw, typ, _, err := jsonparser.Get(body, place...)
	if err != nil || typ != jsonparser.String {
		return "", false
	}
	s, err := jsonparser.ParseString(raw)
	return s, err == nil
}

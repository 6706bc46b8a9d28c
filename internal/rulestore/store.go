// Package rulestore reads and writes the documents that data sources read rules from: on a file server, in Nacos, etcd, Consul
// or a ConfigMap. What somebody else has written meanwhile is not written over, where the server can tell.
package rulestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/source"
)

// timeout is how long a server may take to answer once.
const timeout = 10 * time.Second

var (
	// ErrAbsent means that the server has no such document.
	ErrAbsent = errors.New("there is no such document")
	// ErrChanged means that somebody else has written since the document was read. Read it again.
	ErrChanged = errors.New("somebody else has written the document meanwhile")
)

// Store is a document on a server.
type Store struct {
	origin config.Origin
	server string // URL without a slash at its end
	header http.Header
	client *http.Client
	kind   protocol
}

// protocol is how a kind of server keeps documents. A version is what its server calls one; "" where there is none.
type protocol interface {
	read(ctx context.Context, s *Store) (text []byte, version string, err error)
	// write writes where the version is still that one; "" is that the document was not there.
	write(ctx context.Context, s *Store, text []byte, version string) error
}

// New gives the document of a data source on the server at an URL. The header, which may be nil, is sent with each request.
func New(origin config.Origin, server string, header http.Header) (*Store, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL such as http://127.0.0.1:8848", server)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q: a server's URL has no query", server)
	}
	kinds := map[config.SourceType]protocol{config.SourceHTTP: file{}, config.SourceNacos: nacos{}, config.SourceEtcd: etcd{},
		config.SourceConsul: consul{}, config.SourceKubernetes: configMap{}}
	return &Store{origin: origin, server: strings.TrimSuffix(server, "/"), header: header, kind: kinds[origin.Type],
		client: &http.Client{Timeout: timeout}}, nil
}

// Read gives the document and its version, for Write. The error is ErrAbsent where there is none: it can be written then.
func (s *Store) Read(ctx context.Context) (text []byte, version string, err error) {
	text, version, err = s.kind.read(ctx, s)
	return text, version, s.told(err)
}

// Write replaces the document, if its version is still the one that was read; "" makes a new one. The error is ErrChanged
// where the server says that it is another by now.
func (s *Store) Write(ctx context.Context, text []byte, version string) error {
	if len(text) > source.MaxText {
		return fmt.Errorf("a document has at most %d bytes, and this one %d", source.MaxText, len(text))
	}
	return s.told(s.kind.write(ctx, s, text, version))
}

// String says where the document is.
func (s *Store) String() string { return s.server + " " + s.origin.Title() }

func (s *Store) told(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", s.origin.Type, s.origin.Title(), err)
}

// answer is what a server says.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do asks the server. The error says why there is no answer, or that it is too long; a status is none.
func (s *Store) do(ctx context.Context, method, path, contentType string, body []byte, headers ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range s.header {
		req.Header[name] = values
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	const room = 2 * source.MaxText // of a text in base64, in JSON
	text, err := io.ReadAll(io.LimitReader(resp.Body, room+1))
	if err != nil {
		return nil, err
	}
	if len(text) > room {
		return nil, fmt.Errorf("the answer has more than %d bytes", room)
	}
	return &answer{resp.StatusCode, resp.Header, text}, nil
}

// wrong is the error that an answer is, nil of one with a status of 200 to 299.
func (a *answer) wrong() error {
	switch {
	case a.status >= 200 && a.status < 300:
		return nil
	case a.status == http.StatusNotFound:
		return ErrAbsent
	case a.status == http.StatusPreconditionFailed, a.status == http.StatusConflict:
		return ErrChanged
	}
	text := strings.Join(strings.Fields(string(a.body)), " ")
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return fmt.Errorf("status %d: %s", a.status, text)
}

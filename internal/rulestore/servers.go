package rulestore

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sentinel-envoy/shared/checksum"
)

// file is a file server that takes PUT, as a WebDAV or an object store.
type file struct{}

func (file) read(ctx context.Context, s *Store) ([]byte, string, error) {
	a, err := s.do(ctx, http.MethodGet, s.origin.Path, "", nil)
	if err != nil {
		return nil, "", err
	}
	return a.body, a.header.Get("Etag"), a.wrong()
}

func (file) write(ctx context.Context, s *Store, text []byte, version string) error {
	var condition []string
	if version != "" {
		condition = []string{"If-Match", version}
	}
	a, err := s.do(ctx, http.MethodPut, s.origin.Path, jsonType, text, condition...)
	if err != nil {
		return err
	}
	return a.wrong()
}

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

// nacos is a configuration of Nacos, by its API v1. Nacos 2 compares the hash of what is replaced; Nacos 1 does not look.
type nacos struct{}

func (nacos) form(s *Store) url.Values {
	form := url.Values{"dataId": {s.origin.DataID}, "group": {s.origin.Group}}
	if s.origin.Namespace != "" {
		form.Set("tenant", s.origin.Namespace)
	}
	return form
}

func (nacos) path(s *Store) string { return strings.TrimSuffix(s.origin.Path, "/") + "/v1/cs/configs" }

func (n nacos) read(ctx context.Context, s *Store) ([]byte, string, error) {
	a, err := s.do(ctx, http.MethodGet, n.path(s)+"?"+n.form(s).Encode(), "", nil)
	if err != nil {
		return nil, "", err
	}
	return a.body, md5Of(a.body), a.wrong()
}

func (n nacos) write(ctx context.Context, s *Store, text []byte, version string) error {
	form := n.form(s)
	form.Set("content", string(text))
	form.Set("type", "json")
	var condition []string
	if version != "" {
		condition = []string{"casMd5", version}
	}
	a, err := s.do(ctx, http.MethodPost, n.path(s), formType, []byte(form.Encode()), condition...)
	switch {
	case err != nil:
		return err
	case a.wrong() == nil && strings.TrimSpace(string(a.body)) != "true":
		return errors.New("Nacos does not take it: " + string(a.body))
	}
	return a.wrong()
}

// etcd is a key of etcd, by its JSON gateway. A version is the revision in which it was modified.
type etcd struct{}

// rangeAnswer is the gateway's, which writes numbers as texts and bytes in base64.
type rangeAnswer struct {
	Kvs []struct {
		Value       []byte `json:"value"`
		ModRevision string `json:"mod_revision"`
	} `json:"kvs"`
}

func (etcd) read(ctx context.Context, s *Store) ([]byte, string, error) {
	var found rangeAnswer
	if err := s.exchange(ctx, "/v3/kv/range", map[string]any{"key": []byte(s.origin.Key)}, &found); err != nil {
		return nil, "", err
	}
	if len(found.Kvs) == 0 {
		return nil, "", ErrAbsent
	}
	return found.Kvs[0].Value, found.Kvs[0].ModRevision, nil
}

func (etcd) write(ctx context.Context, s *Store, text []byte, version string) error {
	if version == "" {
		version = "0" // of a key that is not there
	}
	type object = map[string]any
	key := []byte(s.origin.Key)
	var done struct{ Succeeded bool }
	err := s.exchange(ctx, "/v3/kv/txn", object{
		"compare": []object{{"key": key, "target": "MOD", "mod_revision": version}},
		"success": []object{{"request_put": object{"key": key, "value": text}}},
	}, &done)
	if err == nil && !done.Succeeded {
		return ErrChanged
	}
	return err
}

// exchange posts JSON, and reads the answer.
func (s *Store) exchange(ctx context.Context, path string, question, reply any) error {
	text, err := json.Marshal(question)
	if err != nil {
		return err
	}
	a, err := s.do(ctx, http.MethodPost, path, jsonType, text)
	if err != nil {
		return err
	}
	if err := a.wrong(); err != nil {
		return err
	}
	return json.Unmarshal(a.body, reply)
}

// consul is a key of Consul's. A version is the index at which it was modified.
type consul struct{}

func (consul) path(s *Store) string {
	return "/v1/kv/" + (&url.URL{Path: strings.TrimPrefix(s.origin.Key, "/")}).EscapedPath()
}

func (c consul) read(ctx context.Context, s *Store) ([]byte, string, error) {
	a, err := s.do(ctx, http.MethodGet, c.path(s), "", nil)
	if err != nil {
		return nil, "", err
	}
	if err := a.wrong(); err != nil {
		return nil, "", err
	}
	var found []struct {
		Value       []byte
		ModifyIndex uint64
	}
	if err := json.Unmarshal(a.body, &found); err != nil || len(found) != 1 {
		return nil, "", errors.New("no answer of Consul's")
	}
	return found[0].Value, strconv.FormatUint(found[0].ModifyIndex, 10), nil
}

func (c consul) write(ctx context.Context, s *Store, text []byte, version string) error {
	if version == "" {
		version = "0" // of a key that is not there
	}
	a, err := s.do(ctx, http.MethodPut, c.path(s)+"?cas="+url.QueryEscape(version), jsonType, text)
	switch {
	case err != nil:
		return err
	case a.wrong() == nil && strings.TrimSpace(string(a.body)) != "true":
		return ErrChanged
	}
	return a.wrong()
}

// configMap is a key of a ConfigMap, by the API of Kubernetes. A version is the ConfigMap's.
type configMap struct{}

func (configMap) path(s *Store) string {
	return "/api/v1/namespaces/" + url.PathEscape(s.origin.Namespace) + "/configmaps"
}

type configMapAnswer struct {
	Kind     string
	Metadata struct{ ResourceVersion string }
	Data     map[string]string
}

// read says of a ConfigMap without the key that it is absent, with its version: the key can be added to it.
func (c configMap) read(ctx context.Context, s *Store) ([]byte, string, error) {
	a, err := s.do(ctx, http.MethodGet, c.path(s)+"/"+url.PathEscape(s.origin.Name), "", nil)
	if err != nil {
		return nil, "", err
	}
	if err := a.wrong(); err != nil {
		return nil, "", err
	}
	var found configMapAnswer
	if err := json.Unmarshal(a.body, &found); err != nil || found.Kind != "ConfigMap" {
		return nil, "", errors.New("the answer is no ConfigMap")
	}
	text, there := found.Data[s.origin.Key]
	if !there {
		return nil, found.Metadata.ResourceVersion, ErrAbsent
	}
	return []byte(text), found.Metadata.ResourceVersion, nil
}

func (c configMap) write(ctx context.Context, s *Store, text []byte, version string) error {
	type object = map[string]any
	data := object{s.origin.Key: string(text)}
	method, path, typ := http.MethodPatch, c.path(s)+"/"+url.PathEscape(s.origin.Name), "application/merge-patch+json"
	manifest := object{"metadata": object{"resourceVersion": version}, "data": data}
	if version == "" {
		method, path, typ = http.MethodPost, c.path(s), jsonType
		manifest = object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": s.origin.Name}, "data": data}
	}
	body, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	a, err := s.do(ctx, method, path, typ, body)
	if err != nil {
		return err
	}
	if err := a.wrong(); err != nil {
		return err
	}
	var now configMapAnswer
	if json.Unmarshal(a.body, &now) != nil || now.Kind != "ConfigMap" {
		return errors.New("the answer is no ConfigMap")
	}
	return nil
}

// md5Of is a hash as Nacos writes it.
func md5Of(text []byte) string {
	sum := checksum.MD5(text)
	return hex.EncodeToString(sum[:])
}

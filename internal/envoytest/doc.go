// Package envoytest runs a real Envoy, with listeners described in Go, and gives tests, load commands and benchmarks
// what they need around it: its log, its admin interface, upstreams to put behind it and clients to put in front.
//
// A test reads:
//
//	up := envoytest.StartHTTPService(t)
//	e := envoytest.Start(t, envoytest.Config{
//		Listeners: []envoytest.Listener{
//			envoytest.HTTP{Name: "http", Upstream: up.Addr(), Wasm: []envoytest.Wasm{{
//				File: wasm, RootID: "sentinel_http", Config: `{"resource_name": "some-test"}`,
//			}}},
//		},
//	})
//	if r := e.Get("http", "/orders"); r.Status != 200 { … }
//
// A program that is not a test uses Launch, NewHTTPService and their like, which return errors.
//
// Everything listens on free loopback ports, every process is ended by its id, and on Linux an Envoy also ends when the
// program that started it dies.
package envoytest

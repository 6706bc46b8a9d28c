// Package demo is the command `sentinel demo`: a service, an Envoy with the Wasm filter in front of it, clients that play a
// short story over and over, and a page on loopback that shows live what happens and lets thresholds be changed.
//
//	clients ─▶ Envoy + Sentinel ─▶ service
//	   │         │ audit, metrics      │ fails when the story says so
//	   └────▶ observer ─▶ snapshots ─▶ page (server-sent events)
//	                      rules ◀───── page (POST)
package demo

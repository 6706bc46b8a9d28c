package quickstart

import (
	"io"
	"net"
	"net/http"
	"time"

	"github.com/mccutchen/go-httpbin/v2/httpbin"
)

// StartUpstream serves go-httpbin on a loopback port until the returned server is closed. /some-test, the resource of
// the sample configuration, answers "ok".
func StartUpstream(port int) (*http.Server, error) {
	l, err := net.Listen("tcp4", loopback(port))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", httpbin.New())
	mux.HandleFunc("/some-test", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "ok\n")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(l) // returns when the server is closed
	return server, nil
}

package soak

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sentinel-envoy/internal/envoytest"
)

// frames is an HTTP/2 client that sends the frames it is told to.
type frames struct {
	t      *testing.T
	conn   *net.TCPConn
	framer *http2.Framer
	block  bytes.Buffer
	hpack  *hpack.Encoder
	next   uint32
	broken error // the first error in writing
}

// frames opens a connection, closed at the test's end.
func (s *siege) frames(listener string) *frames {
	c := s.open(listener)
	if c == nil {
		s.t.Error("closed at once")
		return &frames{t: s.t, broken: net.ErrClosed}
	}
	s.t.Cleanup(func() { c.Close() })
	f := &frames{t: s.t, conn: c, framer: http2.NewFramer(c, bufio.NewReader(c)), next: 1}
	f.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.hpack = hpack.NewEncoder(&f.block)
	_, err := c.Write([]byte(http2.ClientPreface))
	f.note(err)
	f.note(f.framer.WriteSettings())
	return f
}

func (f *frames) note(err error) {
	if f.broken == nil {
		f.broken = err
	}
}

// encode gives the block of a request's headers; those that fields, names and values in turn, do not have are added.
func (f *frames) encode(fields []string) []byte {
	f.block.Reset()
	all := []string{":method", "GET", ":scheme", "http", ":authority", "a"}
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == ":method" {
			all[1] = fields[i+1]
		} else {
			all = append(all, fields[i], fields[i+1])
		}
	}
	for i := 0; i < len(all); i += 2 {
		// Not in the table: it would be the same for all connections of the same bytes.
		f.note(f.hpack.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1], Sensitive: len(all[i+1]) > 1000}))
	}
	return f.block.Bytes()
}

// headers begins a stream, and gives its id. end says that there is no body.
func (f *frames) headers(end bool, fields ...string) uint32 {
	id := f.next
	f.next += 2
	if f.broken != nil {
		return id
	}
	const most = 16 << 10 // of a frame
	block := f.encode(fields)
	first := block[:min(len(block), most)]
	f.note(f.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(first) == len(block)}))
	for rest := block[len(first):]; len(rest) > 0 && f.broken == nil; {
		part := rest[:min(len(rest), most)]
		rest = rest[len(part):]
		f.note(f.framer.WriteContinuation(id, len(rest) == 0, part))
	}
	return id
}

func (f *frames) reset(id uint32) {
	if f.broken == nil {
		f.note(f.framer.WriteRSTStream(id, http2.ErrCodeCancel))
	}
}

// answer reads until the answer to a stream begins, or data comes where data says so. It gives the status; an error
// where the stream is reset or the connection ends.
func (f *frames) answer(id uint32, data bool) (status int, err error) {
	for {
		frame, err := f.framer.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			if frame.StreamID == id {
				return 0, fmt.Errorf("reset: %v", frame.ErrCode)
			}
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				return 0, fmt.Errorf("GOAWAY: %v", frame.ErrCode)
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamID != id {
				continue
			}
			if status, err = strconv.Atoi(frame.PseudoValue("status")); err != nil || !data {
				return status, err
			}
		case *http2.DataFrame:
			if frame.StreamID == id && data {
				return status, nil
			}
		}
	}
}

// resets2 resets streams of HTTP/2 at every stage, one by one and all at once with their connection.
func resets2(s *siege) string {
	const each, connections = 20, 4
	for _, stage := range stages {
		for _, wholesale := range []bool{false, true} {
			before := s.entered(stage.resource)
			var clients []*frames
			for range connections {
				f := s.frames("http")
				clients = append(clients, f)
				for range each {
					f.come(stage)
				}
				if f.broken != nil {
					s.t.Fatalf("%s: %v", stage.name, f.broken)
				}
			}
			n := each * connections
			s.arrive(stage, before, n, func(stats map[string]float64) bool {
				return stats["http.http.downstream_cx_active"] >= connections
			})
			for _, f := range clients {
				if wholesale || stage.name == "amid the headers" {
					envoytest.Reset(f.conn)
					continue
				}
				for id := uint32(1); id < f.next; id += 2 {
					f.reset(id)
				}
			}
			s.leaveNothing()
			for _, f := range clients {
				f.conn.Close()
			}
		}
	}
	return fmt.Sprintf("%d streams at each of %d stages, one by one and with their connection", each*connections, len(stages))
}

// come brings a stream to a stage.
func (f *frames) come(to stage) {
	_, path, _ := strings.Cut(to.open, " ")
	path, _, _ = strings.Cut(path, " ")
	switch to.name {
	case "amid the headers": // only one stream of a connection can be
		if f.next > 1 {
			return
		}
		f.next += 2
		f.note(f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode([]string{":path", path})}))
	case "after the headers":
		f.headers(false, ":method", "POST", ":path", path)
	case "amid the body":
		id := f.headers(false, ":method", "POST", ":path", path)
		f.note(f.framer.WriteData(id, false, []byte("half")))
	default:
		id := f.headers(true, ":path", path)
		if !to.answered {
			return
		}
		// Of the body of another stream there may be so much before that the connection's window is at its end.
		f.note(f.framer.WriteWindowUpdate(0, 1<<20))
		status, err := f.answer(id, path == "/half")
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
		f.note(err)
	}
}

// rapidReset begins streams and resets them, many thousand times: some in the same breath, when Envoy does not come to ask
// the filter about most of them, some a moment later, when it has.
func rapidReset(s *siege) string {
	const streams, clients = 30_000, 8
	var begun, connections atomic.Int64
	before := s.Stats()["http.http.downstream_rq_total"]
	passed, refused := s.entered("attacked"), s.Sum("sentinel_blocked", "resource", "attacked")
	deadline := time.Now().Add(soon)
	each(clients, clients, func(i int) {
		for begun.Load() < streams && time.Now().Before(deadline) {
			f := s.frames("http")
			connections.Add(1)
			pongs := make(chan struct{}, 1)
			go f.listen(pongs)
			// Envoy closes a connection with too many resets: then comes the next.
			for f.broken == nil && begun.Load() < streams {
				begun.Add(f.rush(i%2 == 0, pongs))
			}
			f.conn.Close()
		}
	})
	s.leaveNothing()
	took := s.Stats()["http.http.downstream_rq_total"] - before
	passed, refused = s.entered("attacked")-passed, s.Sum("sentinel_blocked", "resource", "attacked")-refused
	if asked := passed + refused; passed == 0 || asked < streams/20 || asked > took || took > float64(begun.Load()) {
		s.t.Errorf("of %d streams Envoy saw %v, %v passed and %v were refused", begun.Load(), took, passed, refused)
	}
	return fmt.Sprintf("%d streams on %d connections; %.0f reached the filter, %.0f were let in", begun.Load(), connections.Load(),
		passed+refused, passed)
}

// rush begins some streams and resets them: at once, or when Envoy has answered a ping that followed. It gives how many.
func (f *frames) rush(atOnce bool, pongs <-chan struct{}) (n int64) {
	const each = 20
	paths := [...]string{"/hold", "/plain", "/half", "/hold/more"}
	var ids [each]uint32
	for i := range ids {
		ids[i] = f.headers(true, ":path", paths[i%len(paths)], "x-user", strconv.Itoa(int(f.next)))
		if atOnce {
			f.reset(ids[i])
		}
	}
	if f.broken == nil {
		f.note(f.framer.WritePing(false, [8]byte{}))
	}
	if _, ok := <-pongs; !ok {
		f.note(net.ErrClosed)
	}
	for _, id := range ids {
		if !atOnce {
			f.reset(id)
		}
	}
	return each
}

// listen reads what Envoy says, until the connection ends, and tells of answers to pings.
func (f *frames) listen(pongs chan<- struct{}) {
	defer close(pongs)
	for {
		frame, err := f.framer.ReadFrame()
		if err != nil && !errors.As(err, new(http2.StreamError)) {
			return
		}
		if p, ok := frame.(*http2.PingFrame); ok && p.IsAck() {
			pongs <- struct{}{}
		}
	}
}

// bigHeaders2 is bigHeaders in HTTP/2. It gives how many requests were taken.
func (s *siege) bigHeaders2(big string) (taken float64) {
	const n, part = 20, 60_000 // HTTP/2 codecs refuse a header of more than 64 KiB
	fields := []string{"x-user", big[:part]}
	for i := range len(big) / part {
		fields = append(fields, "x-"+strconv.Itoa(i), big[:part])
	}
	for range n {
		f := s.frames("big")
		id := f.headers(true, append([]string{":path", "/plain"}, fields...)...)
		status, err := f.answer(id, false)
		if err != nil {
			s.t.Fatalf("HTTP/2: %v, %v", err, f.broken)
		}
		letIn(s.t, status)
		taken++
		f.conn.Close()

		f = s.frames("http")
		id = f.headers(true, append([]string{":path", "/plain"}, fields...)...)
		if status, err := f.answer(id, false); err == nil && status != 431 {
			s.t.Errorf("HTTP/2: the listener that takes 60 KiB answers %d", status)
		}
		f.conn.Close()
	}
	return taken
}

package answer

import "strconv"

// MarshalJSON is the block as a configuration has it: for tools that write rules out.
func (b *Block) MarshalJSON() ([]byte, error) {
	w := &writer{text: []byte{'{'}}
	w.status("status", b.Status)
	w.statusOf("status_of", b.StatusOf)
	w.status("grpc_status", b.GRPCStatus)
	w.statusOf("grpc_status_of", b.GRPCOf)
	if b.Body != "" {
		w.key("body")
		w.string(b.Body)
	}
	w.is("problem", b.Problem)
	w.is("x_envoy_ratelimited", b.Limited)
	if b.Headers != nil {
		w.open("headers")
		for _, h := range b.Headers {
			w.key(h[0])
			w.string(h[1])
		}
		w.text = append(w.text, '}')
	}
	return append(w.text, '}'), nil
}

// writer writes objects of JSON.
type writer struct{ text []byte }

func (w *writer) key(name string) {
	if w.text[len(w.text)-1] != '{' {
		w.text = append(w.text, ',')
	}
	w.string(name)
	w.text = append(w.text, ':')
}

func (w *writer) string(s string) {
	w.text = append(AppendJSON(append(w.text, '"'), s), '"')
}

func (w *writer) open(name string) {
	w.key(name)
	w.text = append(w.text, '{')
}

func (w *writer) status(name string, status int) {
	if status != 0 {
		w.key(name)
		w.text = strconv.AppendInt(w.text, int64(status), 10)
	}
}

func (w *writer) statusOf(name string, some []OfKind) {
	if len(some) == 0 {
		return
	}
	w.open(name)
	for _, s := range some {
		w.status(s.Kind, s.Status)
	}
	w.text = append(w.text, '}')
}

func (w *writer) is(name string, v Is) {
	if v != Unsaid {
		w.key(name)
		w.text = strconv.AppendBool(w.text, v == Yes)
	}
}

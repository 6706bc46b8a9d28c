package browser

import (
	"bytes"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestPageIsAskedAndPictured(t *testing.T) {
	path, err := Find()
	if err != nil {
		t.Skip(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<title>hello</title><body style="margin:0; background: rgb(10, 200, 30)">`)
	}))
	defer server.Close()
	p, err := Open(t.Context(), path, server.URL, Options{Width: 320, Height: 200, Dark: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	var title string
	loaded := `new Promise(done => { const see = () => document.title ? done(document.title) : setTimeout(see, 10); see(); })`
	if err := p.Eval(loaded, &title); err != nil || title != "hello" {
		t.Fatalf("title %q, %v", title, err)
	}
	var dark bool
	if err := p.Eval(`matchMedia("(prefers-color-scheme: dark)").matches`, &dark); err != nil || !dark {
		t.Errorf("dark is %t, %v", dark, err)
	}
	if err := p.Eval(`nobody.knows`, nil); err == nil {
		t.Error("an exception is no error")
	}
	shot, err := p.Screenshot()
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	if b := picture.Bounds(); b.Dx() != 320 || b.Dy() != 200 {
		t.Errorf("the picture is %v", b)
	}
	if r, g, b, _ := picture.At(100, 100).RGBA(); r>>8 != 10 || g>>8 != 200 || b>>8 != 30 {
		t.Errorf("its colour is %d %d %d", r>>8, g>>8, b>>8)
	}
}

package pattern

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sentinel-envoy/shared/percent"
)

func TestPath(t *testing.T) {
	for _, c := range []struct{ pattern, matches, others string }{
		{"/users/{id}", "/users/7 /users/a.b /users/{id} /users/a*b /users/a=b", "/users /users/ /users/7/ /users/7/x /user/7 users/7 /Users/7"},
		{"/users/{id}/orders/{n}", "/users/7/orders/8", "/users/7/orders /users/7/orders/8/ /users//orders/8"},
		{"/files/*.png", "/files/a.png /files/.png /files/a.png.png", "/files/a.jpg /files/a.png/ /files/x/a.png /files/png"},
		{"/files/{name}.png", "/files/a.png", "/files/.png"},
		{"/v*/a*b*c", "/v/abc /v1/aXbXc /v12/abcbc", "/v1/abcb /v1/ab /w/abc /v1/ac"},
		{"/{a}-{b}", "/x-y /x-y-z", "/x- /-y /xy"},
		{"/{a}{b}", "/xy /xyz", "/x /"},
		{"/*", "/a", "/ /a/ /a/b"},
		{"/api/**", "/api /api/ /api/a /api/a/b /api//", "/apis /ap /API/a"},
		{"/api/{*rest}", "/api /api/a/b", "/apis"},
		{"/**", "/ /a //a", "* a"},
		{"/**/x", "/x /a/x /a/b/x", "/x/ /ax /x/a"},
		{"/a/**/b/*.png", "/a/b/c.png /a/x/y/b/c.png", "/a/b/c.jpg /a/c.png /b/c.png"},
		{"/订单/{id}", "/订单/7", "/订/7"},
		{"/%E8%AE%a2/*", "/订/7", "/%E8%AE%A2/7"}, // in their normal form
		{"/a%2Ab", "/a*b", "/aXb"},
		{"/a%2fb", "/a%2Fb", "/a/b"},
		{"/", "/", "/a //"},
	} {
		p, err := ParsePath(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		re, err := Compile("(?s:" + p.Expression() + ")")
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		for _, path := range strings.Fields(c.matches) {
			if !p.Matches(path) {
				t.Errorf("%s does not match %s", c.pattern, path)
			}
			if !re.Matches(path) {
				t.Errorf("%s does not match %s", p.Expression(), path)
			}
		}
		for _, path := range strings.Fields(c.others) {
			if re.Matches(path) {
				t.Errorf("%s matches %s", p.Expression(), path)
			}
		}
		for _, path := range append(strings.Fields(c.others), "") {
			if p.Matches(path) {
				t.Errorf("%s matches %q", c.pattern, path)
			}
		}
	}
}

func TestPathMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"users/{id}":                  `must begin with "/"`,
		"/a?b={c}":                    "must have no query",
		"/a/{id:[0-9]+}":              "path.regex",
		"/a/{id=*}":                   "path.regex",
		"/a/{*rest}/b":                "path.regex",
		"/a/{id":                      "has a { without its }",
		"/a/id}":                      "has a } without its {",
		"/a/**b":                      "** must be a segment of its own",
		"/**/a/**":                    "** at most once",
		strings.Repeat("/{a}", 65):    "at most 64 segments",
		"/" + strings.Repeat("*a", 9): "at most 8 wildcards",
	} {
		if _, err := ParsePath(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func paths(t testing.TB, patterns ...string) *Paths {
	t.Helper()
	set := &Paths{}
	for _, text := range patterns {
		p, err := ParsePath(text)
		if err != nil {
			t.Fatal(err)
		}
		if taken := set.Add(p, text); taken != "" {
			t.Fatalf("%s is %s", text, taken)
		}
	}
	return set
}

// The most specific pattern wins, in whatever order they were added.
func TestPathsMostSpecificWins(t *testing.T) {
	patterns := []string{
		"/**", "/**/x", "/**/b/x", "/users/**", "/users/{id}", "/users/*/orders", "/users/{id}/{what}", "/users/a*", "/users/ab*",
		"/users/me/**", "/{any}", "/users/{id}/**/y",
	}
	for range 20 {
		rand.Shuffle(len(patterns), func(i, j int) { patterns[i], patterns[j] = patterns[j], patterns[i] })
		set := paths(t, patterns...)
		for path, want := range map[string]string{
			"/users/7": "/users/{id}", "/users/a7": "/users/a*", "/users/ab7": "/users/ab*", "/users/me": "/users/me/**",
			"/users/me/x": "/users/me/**", "/users/7/orders": "/users/*/orders", "/users/7/pets": "/users/{id}/{what}",
			"/users/7/pets/y": "/users/{id}/**/y", "/users/7/pets/z": "/users/**", "/users": "/users/**", "/a": "/{any}", "/a/x": "/**/x",
			"/a/b/x": "/**/b/x", "/": "/**", "/users/": "/users/**", "*": "", "": "",
		} {
			if got := set.Find(path); got != want {
				t.Errorf("%s is %q, want %q; of %q", path, got, want, patterns)
			}
		}
	}
	if got := (&Paths{}).Find("/a"); got != "" {
		t.Errorf("%q of none", got)
	}
}

func TestPathsThatAreTheSame(t *testing.T) {
	for _, c := range [][2]string{{"/users/{id}", "/users/*"}, {"/a/**", "/a/{*rest}"}, {"/**/{x}.png", "/**/{y}.png"}, {"/%61/*", "/a/*"}} {
		set := paths(t, c[0])
		other, err := ParsePath(c[1])
		if err != nil {
			t.Fatal(err)
		}
		if got := set.Add(other, c[1]); got != c[0] {
			t.Errorf("%s is %q, want %q", c[1], got, c[0])
		}
	}
	html := paths(t, "/**", "/**/*.html", "/**/offers/*.html")
	if got := html.Find("/en/offers/step4.html"); got != "/**/offers/*.html" {
		t.Errorf("%q", got)
	}
	set := paths(t, "/users/{id}.png", "/users/*.png", "/users/{id}/x", "/users/{id}")
	if got := set.Find("/users/.png"); got != "/users/*.png" {
		t.Errorf("%q", got)
	}
}

// The tree finds what asking each pattern finds.
func TestPathsFindsWhatMatches(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	parts := []string{"a", "b", "{x}", "*", "a*", "*b", "**"}
	for range 3000 {
		set, all := &Paths{}, map[string]*Path{}
		for range 1 + rng.IntN(6) {
			text := ""
			for range 1 + rng.IntN(4) {
				text += "/" + parts[rng.IntN(len(parts))]
			}
			if p, err := ParsePath(text); err == nil && set.Add(p, text) == "" {
				all[text] = p
			}
		}
		path := ""
		for range 1 + rng.IntN(5) {
			path += "/" + []string{"a", "b", "ab", "", "c"}[rng.IntN(5)]
		}
		got, some := set.Find(path), false
		for text, p := range all {
			matches := p.Matches(path)
			if re, err := Compile("(?s:" + p.Expression() + ")"); err != nil || re.Matches(path) != matches {
				t.Fatalf("seed %d: %s matches %s: %t, but %s (%v) differs", seed, text, path, matches, p.Expression(), err)
			}
			some = some || matches
		}
		if some != (got != "") || got != "" && !all[got].Matches(path) {
			t.Fatalf("seed %d: %s is %q of %v", seed, path, got, all)
		}
	}
}

// What a client sends costs no more than what the patterns have in segments.
func BenchmarkThousandPatterns(b *testing.B) {
	var patterns []string
	for i := range 1000 {
		patterns = append(patterns, fmt.Sprintf("/{a}/{b}/x%d/*.png", i))
	}
	set := paths(b, patterns...)
	path := "/a/b/x999/" + strings.Repeat("png.", 10_000) + "png"
	for b.Loop() {
		set.Find(path)
	}
}

func TestNormalPath(t *testing.T) {
	for path, want := range map[string]string{
		"/orders": "/orders", "/%6Frders": "/orders", "/%e8%ae%a2%E5%8d%95": "/订单", "/a%20b": "/a b", "/a+b": "/a+b",
		"/a%2fb": "/a%2Fb", "/a%252fb": "/a%252fb", "/%3f%23": "/%3F%23", "/%": "/%25", "/%4": "/%254", "/%zz": "/%25zz", "/%0%61": "/%250a", "/%ff": "/\xff", "": "",
		"/a;v=1/b;c/d": "/a/b/d", "/a;": "/a", "/;x": "/", "/a%3bb": "/a%3Bb", "/a;%2f/b": "/a/b", ";x": "",
	} {
		if got := NormalPath(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// What is in its normal form stays as it is, and two paths that a server decodes to different ones do not become one.
func FuzzNormalPath(f *testing.F) {
	f.Add("/a%2fb", "/a/b")
	f.Add("/%252f", "/%2f")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := NormalPath(a), NormalPath(b)
		if NormalPath(x) != x {
			t.Errorf("%q becomes %q, and that %q", a, x, NormalPath(x))
		}
		if x == y && !strings.Contains(a+b, ";") && decoded(a) != decoded(b) {
			t.Errorf("%q and %q both become %q", a, b, x)
		}
	})
}

// decoded is a path as a server reads it: everything decoded once.
func decoded(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if c, ok := percent.Decode(path[i:]); ok {
			b.WriteByte(c)
			i += 2
			continue
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

func TestExpression(t *testing.T) {
	long := strings.Repeat("7", MaxText)
	for _, c := range []struct {
		source, text string
		want         bool
	}{
		{"/orders/[0-9]+|/n", "/orders/7", true}, {"/orders/[0-9]+|/n", "/n", true}, {"/orders/[0-9]+|/n", "/nn", false},
		{"a|b", "ab", false}, {"(/api)/.*", "/api/x", true}, {"(?i)/api", "/API", true}, {"", "", true}, {"", "a", false},
		{"^/a$", "/a", true}, {"\\Q/a.b\\E", "/a.b", true}, {"\\Q/a.b\\E", "/axb", false}, {"(?:/a)?b", "b", true}, {"/a{2}b", "/aab", true},
		// A longer text is taken by how it begins.
		{"/orders/[0-9]+", "/orders/" + long, true}, {"/orders/[0-9]+", "/orders/x" + long, true}, {"/orders/[0-9]+", "/n/" + long, false},
		{"/(a|b)/.*", "/c/" + long, true}, {".*", long + long, true}, {"(?i)/api/.*", "/x/" + long, true}, {"(/api/v)[12]/.*", "/api/x" + long, false},
	} {
		e, err := Compile(c.source)
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		if got := e.Matches(c.text); got != c.want {
			t.Errorf("%s matches %.20q: %v", c.source, c.text, got)
		}
	}
	for source, want := range map[string]string{
		"(": "missing", "a)|(b": "unexpected", `(?=a)`: "invalid", "(a{1000}){3}": "invalid", "(a{30}){30}(a{30}){30}(a{30}){30}": "too large", "(?i": "invalid",
	} {
		if _, err := Compile(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
}

// Whatever the text, at its bound and beyond: a text that a longer one begins with is no way out of an expression.
func FuzzExpression(f *testing.F) {
	f.Add("/api/(v1|v2)/.*", "/api/v1/x")
	f.Add("(?i)a*|b", "b")
	f.Fuzz(func(t *testing.T, source, text string) {
		if len(source) > 200 || len(text) > MaxText {
			return
		}
		e, err := Compile(source)
		if err != nil {
			return
		}
		if got, want := e.Matches(text), e.Regexp().MatchString(text); got != want {
			t.Errorf("%q matches %q: %v, want %v", source, text, got, want)
		}
		if longer := text + strings.Repeat(text[:min(1, len(text))], MaxText+1); len(text) > 0 && e.Regexp().MatchString(longer) && !e.Matches(longer) {
			t.Errorf("%q matches %q only where it is read", source, text)
		}
	})
}

func BenchmarkExpressionsAtTheirBound(b *testing.B) {
	var all []*Expression
	for _, source := range []string{"/orders/[0-9]+|/n", "/api/v[0-9]+/users/[^/]+/orders", "/.*admin.*"} {
		e, err := Compile(source)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, e)
	}
	text := "/" + strings.Repeat("admi", MaxText/4)
	for b.Loop() {
		for _, e := range all {
			e.Matches(text[:MaxText])
		}
	}
}

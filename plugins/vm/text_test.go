package vm

import (
	"encoding/json"
	"fmt"
	"testing"
)

// manyRules is the configuration of an update in which one rule has changed.
func manyRules(t *testing.T, update int) []byte {
	t.Helper()
	rules := make([]map[string]any, 1000)
	for i := range rules {
		rules[i] = map[string]any{"id": fmt.Sprint("rule-", i), "resource": fmt.Sprint("/r", i), "threshold": 100}
	}
	rules[update%1000]["threshold"] = 1000 + update
	text, err := json.Marshal(map[string]any{"flowRules": rules})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTextsShareWhatIsEqual: of an update that changes one rule little is new, and nothing is kept that nobody has.
func TestTextsShareWhatIsEqual(t *testing.T) {
	ts := newTexts()
	size := func() (bytes int) {
		ts.pieces.All(func(piece string) { bytes += len(piece) })
		return bytes
	}
	var all []text
	first := manyRules(t, 0)
	all = append(all, ts.keep(first))
	if size() > len(first) || len(all[0]) > len(first)/200 {
		t.Errorf("%d bytes are kept as %d in %d pieces", len(first), size(), len(all[0]))
	}
	for n := 1; n < 200; n++ {
		before, data := size(), manyRules(t, n*5)
		kept := ts.keep(data)
		if got := string(kept.bytes()); got != string(data) {
			t.Fatalf("update %d is not what it was", n)
		}
		if more := size() - before; more > 4*maxPiece {
			t.Errorf("update %d takes %d bytes more of %d", n, more, len(data))
		}
		all = append(all, kept)
	}
	if perUpdate := (size() - len(first)) / len(all); perUpdate > len(first)/10 {
		t.Errorf("%d bytes an update", perUpdate)
	}
	for _, kept := range all {
		ts.drop(kept)
	}
	if size() != 0 {
		t.Errorf("%d bytes are left", size())
	}
}

func TestTextsOfAnyBytes(t *testing.T) {
	ts := newTexts()
	for _, data := range []string{"", "}", "{}", "no object at all", fmt.Sprintf("%*s", 5*maxPiece, "}")} {
		if got := string(ts.keep([]byte(data)).bytes()); got != data {
			t.Errorf("%d bytes became %d", len(data), len(got))
		}
	}
}

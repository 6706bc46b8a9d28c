package pattern

import (
	"cmp"
	"slices"
)

// Paths finds the most specific of many path patterns that a path matches: segment by segment from the left a literal
// wins over a segment with wildcards, of two of these the one with more literal bytes, and "**" comes last. Its zero value
// has none.
//
// It is a tree of segments. A path comes to each node at most once, so a client's path costs at most what the patterns
// have in segments, and mostly as many steps as it has itself.
type Paths struct{ root node }

// node is where a path is after some segments.
type node struct {
	literals map[string]*node
	globs    []branch // the most specific first
	name     string   // of the pattern that ends here
	rests    []ending // of the patterns with a "**" here, the most specific first
}

type branch struct {
	segment
	to *node
}

type ending struct {
	tail []segment
	name string
}

// Add adds a pattern under a name that is not empty. Where there is one already that matches the same paths, it returns
// that one's name and adds nothing.
func (s *Paths) Add(p *Path, name string) (taken string) {
	n := &s.root
	for i := range p.head {
		n = n.child(&p.head[i])
	}
	if p.rest {
		return n.addRest(ending{p.tail, name})
	}
	if n.name == "" {
		n.name = name
		return ""
	}
	return n.name
}

// child is the node after a segment, made where there is none.
func (n *node) child(s *segment) *node {
	if len(s.some) == 0 {
		if n.literals == nil {
			n.literals = map[string]*node{}
		}
		to := n.literals[s.pieces[0]]
		if to == nil {
			to = &node{}
			n.literals[s.pieces[0]] = to
		}
		return to
	}
	i, found := slices.BinarySearchFunc(n.globs, s, func(b branch, s *segment) int { return compare(&b.segment, s) })
	if !found {
		n.globs = insert(n.globs, i, branch{*s, &node{}})
	}
	return n.globs[i].to
}

func (n *node) addRest(e ending) (taken string) {
	i, found := slices.BinarySearchFunc(n.rests, e, func(a, b ending) int {
		return cmp.Or(cmp.Compare(len(b.tail), len(a.tail)), slices.CompareFunc(a.tail, b.tail, func(x, y segment) int {
			return compare(&x, &y)
		}))
	})
	if found {
		return n.rests[i].name
	}
	n.rests = insert(n.rests, i, e)
	return ""
}

// insert puts an element before the one at i: slices.Insert, which takes several, is ten times as large in Wasm.
func insert[E any](list []E, i int, e E) []E {
	list = append(list, e)
	copy(list[i+1:], list[i:])
	list[i] = e
	return list
}

// compare puts the more specific segment first.
func compare(a, b *segment) int {
	return cmp.Or(
		cmp.Compare(min(len(a.some), 1), min(len(b.some), 1)),
		cmp.Compare(b.literals(), a.literals()),
		cmp.Compare(len(a.some), len(b.some)),
		slices.Compare(a.pieces, b.pieces),
		slices.CompareFunc(a.some, b.some, func(x, y bool) int { return cmp.Compare(rank(x), rank(y)) }),
	)
}

// rank puts a wildcard that needs a byte before one that does not.
func rank(some bool) int {
	if some {
		return 0
	}
	return 1
}

// Find is the name of the most specific pattern that a path, in its normal form, matches, and "" where there is none.
func (s *Paths) Find(path string) string {
	if path == "" {
		return ""
	}
	return s.root.find(path)
}

func (n *node) find(path string) string {
	part, rest, more := next(path)
	if !more && path == "" && n.name != "" {
		return n.name
	}
	if more {
		if to := n.literals[part]; to != nil {
			if name := to.find(rest); name != "" {
				return name
			}
		}
		for i := range n.globs {
			if n.globs[i].matches(part) {
				if name := n.globs[i].to.find(rest); name != "" {
					return name
				}
			}
		}
	}
	for i := range n.rests {
		if endsWith(path, n.rests[i].tail) {
			return n.rests[i].name
		}
	}
	return ""
}

// Package resource finds the resource that a request or a connection belongs to.
package resource

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/shared/config"
)

// Taken is which resource a stream is. Those that resolvers return are void with the next.
type Taken struct {
	Name string // "" is guarded by nothing
	// Exempt is whether an entry that is unlimited has taken it.
	Exempt bool
	// Before are resources that it is as well, each another one, and whose rules are asked before. They are void with the next.
	Before []string
}

// is makes it that of a stream that is some others before the one that has a name.
func (t *Taken) is(before []string, name string) *Taken {
	if len(before) > 0 && (name == "" || slices.Contains(before, name)) {
		name, before = before[len(before)-1], before[:len(before)-1]
	}
	t.Name, t.Exempt, t.Before = name, false, before
	return t
}

// isExempt makes it that of a stream that an entry has taken that is unlimited.
func (t *Taken) isExempt(name string) *Taken {
	t.Name, t.Exempt, t.Before = name, true, nil
	return t
}

// also adds a name to those before it.
func also(before []string, name string) []string {
	if slices.Contains(before, name) {
		return before
	}
	return append(before, name)
}

// errKind is what a resolver says of an entry for the other kind of filter. config.Parse lets none through.
func errKind(i int, kind string) error {
	return errors.New("resources[" + strconv.Itoa(i) + "]: has conditions that " + kind + " cannot meet")
}

// matchName compares host names: without regard to case, or to the dot that may end a fully qualified one.
func matchName(n *config.Name, host string) bool {
	if n.Value == "" {
		return true
	}
	host = strings.TrimSuffix(host, ".")
	if !n.Suffix {
		return strings.EqualFold(host, n.Value)
	}
	cut := len(host) - len(n.Value)
	return cut > 0 && strings.EqualFold(host[cut:], n.Value)
}

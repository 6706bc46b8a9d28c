package engine

import (
	"strconv"

	"sentinel-envoy/shared/stat"
)

// page is a page of the snapshot as this worker has last read it.
type page struct {
	content []byte
	tick    uint64
}

// ratesTTL is how old a page may be to be believed, in nanoseconds.
const ratesTTL = 2e9

func pageKey(number int) string { return "sentinel/1/rates/" + strconv.Itoa(number) }

// rates is what was last published about a resource. A page is read at most once a tick.
func (vm *VM) rates(hash uint64, now int64) (r stat.Rates, ok bool) {
	p := &vm.pages[stat.PageOf(hash)]
	if p.content == nil || p.tick != vm.ticks {
		p.tick = vm.ticks
		content, _, err := vm.host.Get(pageKey(stat.PageOf(hash)))
		if err != nil {
			return stat.Rates{}, false
		}
		p.content = content
	}
	h, err := stat.DecodePage(p.content, func(other uint64, found stat.Rates) {
		if other == hash {
			r, ok = found, true
		}
	})
	if err != nil || h.At+ratesTTL < now || h.At > now+ratesTTL {
		return stat.Rates{}, false
	}
	return r, ok
}

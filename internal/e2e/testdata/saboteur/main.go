// Saboteur is a plugin for tests that shares our vm_id and so our shared data and queue. While it is on, it overwrites
// every record of ours that it finds with rubbish, and puts rubbish into the queue, in each tick.
//
// Header x-sabotage: "on" or "off" of a request through its HTTP filter turns it on and off, in the VM of the request's
// worker; "pages" overwrites every page of the directory of records, once. Every request is answered here, with how many
// keys were overwritten so far.
package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"sentinel-envoy/shared/record"
)

const (
	tickMs  = 50
	names   = 1024 // pages of the directory of metrics
	pages   = 4096 // of the directory of records
	perPage = 32
	// directory begins the keys of its pages.
	directory = record.Version + "dir/"
	// keysPerTick and messagesPerTick bound what one tick does.
	keysPerTick     = 8
	messagesPerTick = 8
)

func main() {}

func init() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext {
	return &plugin{random: rand.New(rand.NewPCG(1, 2))}
}

type plugin struct {
	types.DefaultPluginContext
	random *rand.Rand
	on     bool
	keys   []string
	next   int
	done   int
}

func (p *plugin) obey(command string) {
	if command == "pages" {
		p.overwritePages()
		return
	}
	p.keys = find()
	p.on = command == "on" && len(p.keys) > 0
}

func (*plugin) OnPluginStart(int) types.OnPluginStartStatus {
	if err := proxywasm.SetTickPeriodMilliSeconds(tickMs); err != nil {
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) OnTick() {
	if !p.on {
		return
	}
	if p.next%len(p.keys) == 0 {
		p.random.Shuffle(len(p.keys), func(i, j int) { p.keys[i], p.keys[j] = p.keys[j], p.keys[i] })
	}
	for range min(keysPerTick, len(p.keys)) {
		key := p.keys[p.next%len(p.keys)]
		p.next++
		if old, _, err := proxywasm.GetSharedData(key); err == nil {
			p.overwrite(key, p.rubbish(old))
		}
	}
	p.enqueue()
}

func (p *plugin) overwrite(key string, value []byte) {
	if err := proxywasm.SetSharedData(key, value, 0); err != nil {
		proxywasm.LogErrorf("overwriting %s: %v", key, err)
		return
	}
	p.done++
}

// overwritePages makes the directory say nothing of whose the records are.
func (p *plugin) overwritePages() {
	for page := range pages {
		key := directory + strconv.Itoa(page)
		if _, _, err := proxywasm.GetSharedData(key); err == nil {
			p.overwrite(key, p.noise())
		}
	}
}

// rubbish is noise, or something like what was there.
func (p *plugin) rubbish(old []byte) []byte {
	switch p.random.IntN(4) {
	case 0:
		return nil
	case 1:
		return old[:p.random.IntN(len(old)+1)]
	case 2:
		if len(old) > 0 {
			old[p.random.IntN(len(old))] ^= 1 << p.random.IntN(8)
		}
		return old
	}
	return p.noise()
}

func (p *plugin) noise() []byte {
	b := make([]byte, 1+p.random.IntN(200))
	for i := range b {
		b[i] = byte(p.random.Uint32())
	}
	return b
}

func (p *plugin) enqueue() {
	queue, err := proxywasm.ResolveSharedQueue("sentinel", "sentinel/2/reports")
	if err != nil {
		return
	}
	for range messagesPerTick {
		if err := proxywasm.EnqueueSharedQueue(queue, p.noise()); err != nil {
			proxywasm.LogErrorf("queue: %v", err)
		}
	}
}

// find lists the keys of ours that exist.
func find() []string {
	var keys []string
	add := func(key string) bool {
		_, _, err := proxywasm.GetSharedData(key)
		if err == nil {
			keys = append(keys, key)
		}
		return err == nil
	}
	add("sentinel/2/aggregator")
	for slot := 0; add("sentinel/2/worker/" + strconv.Itoa(slot)); slot++ {
	}
	for page := range 64 {
		add("sentinel/2/rates/" + strconv.Itoa(page))
	}
	for page := range names {
		add("sentinel/1/metrics/" + strconv.Itoa(page))
	}
	for page := range 8192 { // of values; of counts there are fewer
		add(record.Version + "values/" + strconv.Itoa(page))
		add(record.Version + "counts/" + strconv.Itoa(page))
	}
	for page := range pages {
		if !add(directory + strconv.Itoa(page)) {
			continue
		}
		for slot := range perPage {
			add(record.Version + "rec/" + strconv.Itoa(page*perPage+slot))
		}
	}
	return keys
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext { return &request{plugin: p} }

type request struct {
	types.DefaultHttpContext
	plugin *plugin
}

func (r *request) OnHttpRequestHeaders(int, bool) types.Action {
	p := r.plugin
	if command, err := proxywasm.GetHttpRequestHeader("x-sabotage"); err == nil {
		p.obey(command)
	}
	body := fmt.Sprintf("%d overwritten\n", p.done)
	if err := proxywasm.SendHttpResponse(200, nil, []byte(body), -1); err != nil {
		proxywasm.LogErrorf("answer: %v", err)
	}
	return types.ActionPause
}

package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sentinel-envoy/internal/javarules"
	"sentinel-envoy/shared/source"
)

const (
	// maxForm is how long a request's form may be, and maxHead its head: a dashboard before 1.6 writes all rules into the URL.
	maxForm = 3 * source.MaxText
	maxHead = 4 << 20
	// asking is how long an answer may take to be found.
	asking = 20 * time.Second
)

// refusal is an answer with a status of its own.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

func badRequest(format string, args ...any) error {
	return refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// command answers a request by its parameters.
type command struct {
	name, desc string
	answer     func(a *Agent, ctx context.Context, p url.Values) (string, error)
	sets       bool
}

// commands are in the order of their names. Those that only a cluster of token servers or a gateway has are unknown, as to a Java
// process without them.
func commands() []command {
	return []command{
		{"api", "get all available command handlers", (*Agent).api, false},
		{"basicInfo", "get sentinel config info", (*Agent).basicInfo, false},
		{"clusterNode", "get all clusterNode VO, use type=notZero to ignore those nodes with totalRequest <=0", (*Agent).clusterNode, false},
		{"clusterNodeById", "get clusterNode VO by id, request param: id={resourceName}", (*Agent).clusterNodeByID, false},
		{"getClusterMode", "get cluster mode status", says(`{"mode":-1,"clientAvailable":false,"serverAvailable":false,"lastModified":-1}`), false},
		{"getParamFlowRules", "Get all parameter flow rules", (*Agent).getParamRules, false},
		{"getRules", "get all active rules by type, request param: type={ruleType}", (*Agent).getRules, false},
		{"getSwitch", "get sentinel switch status", says("Sentinel switch value: true"), false},
		{"jsonTree", "get tree node VO start from root node", (*Agent).jsonTree, false},
		{"metric", "get and aggregate metrics, accept param: startTime={startTime}&endTime={endTime}&maxLines={maxLines}&identify={resourceName}", (*Agent).metric, false},
		{"setParamFlowRules", "Set parameter flow rules, while previous rules will be replaced.", (*Agent).setParamRules, true},
		{"setRules", "modify the rules, accept param: type={ruleType}&data={ruleJson}", (*Agent).setRules, true},
		{"systemStatus", "get system status", (*Agent).systemStatus, false},
		{"version", "get sentinel version", says(Protocol), false},
	}
}

func says(text string) func(*Agent, context.Context, url.Values) (string, error) {
	return func(*Agent, context.Context, url.Values) (string, error) { return text, nil }
}

// ServeHTTP implements http.Handler: it answers the commands of Java Sentinel.
func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), asking)
	defer cancel()
	text, err := a.serve(ctx, w, r)
	status := http.StatusOK
	if err != nil {
		// A dashboard shows the text of a 400.
		text, status = err.Error(), http.StatusBadRequest
		var own refusal
		if errors.As(err, &own) {
			status = own.status
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // an error means that nobody reads it any more
}

func (a *Agent) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) (string, error) {
	if err := notABrowser(r); err != nil {
		return "", err
	}
	p, err := params(w, r)
	if err != nil {
		return "", err
	}
	name := strings.Trim(r.URL.Path, "/")
	if name == "" {
		return "", badRequest("Invalid command")
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		if c.sets && !MayWrite(a.writers, r.RemoteAddr) {
			return "", refusal{http.StatusForbidden, "rules are set by the dashboard only, not from " + r.RemoteAddr +
				": see --allow"}
		}
		return c.answer(a, ctx, p)
	}
	return "", badRequest("Unknown command `%s`", name)
}

// notABrowser refuses what a page in a browser could send without its user's knowledge: a dashboard asks from its server, by an
// address.
func notABrowser(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, noAddress := netip.ParseAddr(strings.Trim(host, "[]"))
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" || noAddress != nil && host != "localhost" && host != "" {
		return refusal{http.StatusForbidden, "this port is for the dashboard, not for a browser"}
	}
	return nil
}

// params are those of the URL and of a form.
func params(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method == http.MethodPost {
		typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if r.Header.Get("Content-Type") != "" && (err != nil || typ != "application/x-www-form-urlencoded") {
			return nil, refusal{http.StatusUnsupportedMediaType, "Only form-encoded post request is supported"}
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, badRequest("%v", err)
	}
	return r.Form, nil
}

// MayWrite tells whether a client at an address, with its port, is one of the writers.
func MayWrite(writers []netip.Prefix, remote string) bool {
	at, err := netip.ParseAddrPort(remote)
	return err == nil && slices.ContainsFunc(writers, func(p netip.Prefix) bool { return p.Contains(at.Addr().Unmap()) })
}

func inJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

func (a *Agent) api(context.Context, url.Values) (string, error) {
	type line struct {
		URL  string `json:"url"`
		Desc string `json:"desc"`
	}
	var all []line
	for _, c := range commands() {
		all = append(all, line{"/" + c.name, c.desc})
	}
	return inJSON(all)
}

func (a *Agent) basicInfo(ctx context.Context, _ url.Values) (string, error) {
	ip, _, err := a.address(a.o.Dashboards[0])
	if err != nil {
		return "", err
	}
	machine, err := inJSON(a.host(ctx))
	return fmt.Sprintf("{\n\t\"machine\": %s,\n\t\"ip\": %q\n}", machine, ip), err
}

func (a *Agent) clusterNode(_ context.Context, p url.Values) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.history.nodes(time.Now())
	if strings.EqualFold(p.Get("type"), "notZero") {
		busy := []node{}
		for _, n := range all {
			if n.OneMinuteTotal > 0 {
				busy = append(busy, n)
			}
		}
		all = busy
	}
	return inJSON(all)
}

func (a *Agent) clusterNodeByID(_ context.Context, p url.Values) (string, error) {
	if p.Get("id") == "" {
		return "", badRequest("Invalid parameter: empty clusterNode name")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.history.nodes(time.Now()) {
		if n.Resource == p.Get("id") {
			return inJSON(n)
		}
	}
	return "{}", nil
}

func (a *Agent) jsonTree(context.Context, url.Values) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return inJSON(a.history.tree(time.Now()))
}

func (a *Agent) systemStatus(context.Context, url.Values) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.history.tree(time.Now())[0]
	return inJSON(map[string]any{"b": all.BlockQPS, "r": all.AverageRT, "t": all.ThreadNum, "qps": all.PassQPS, "rqps": all.SuccessQPS})
}

// metric answers what came in each second of a time, in Unix milliseconds.
func (a *Agent) metric(_ context.Context, p url.Values) (string, error) {
	if p.Get("startTime") == "" {
		return "", nil
	}
	from, to, limit := int64(0), int64(1<<62), maxLines
	for _, n := range []struct {
		key string
		dst *int64
	}{{"startTime", &from}, {"endTime", &to}} {
		if s := p.Get(n.key); s != "" {
			v, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return "", badRequest("%s: must be a time in milliseconds", n.key)
			}
			*n.dst = v
		}
	}
	if p.Get("endTime") == "" {
		limit = 6000
		if n, err := strconv.Atoi(p.Get("maxLines")); err == nil {
			limit = min(n, 12000)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.history.write(from, to, p.Get("identity"), limit), nil
}

// types are the values of the parameter "type".
func typeOf(p url.Values) (javarules.Type, error) {
	t := javarules.Type(strings.ToLower(p.Get("type")))
	switch t {
	case javarules.Flow, javarules.Degrade, javarules.System, javarules.Authority:
		return t, nil
	}
	return "", badRequest("invalid type")
}

func (a *Agent) getRules(ctx context.Context, p url.Values) (string, error) {
	t, err := typeOf(p)
	if err != nil {
		return "", err
	}
	return a.tell(ctx, t)
}

func (a *Agent) getParamRules(ctx context.Context, _ url.Values) (string, error) {
	return a.tell(ctx, javarules.ParamFlow)
}

// tell writes the rules of a type.
func (a *Agent) tell(ctx context.Context, t javarules.Type) (string, error) {
	b, err := a.open(ctx)
	if err != nil {
		return "", err
	}
	rules, untold := b.rules(t)
	if untold > 0 {
		a.log("untold "+string(t), "%d %s rules are none that Java Sentinel's words can say: the dashboard does not see them, and "+
			"does not change them", untold, t)
	}
	return inJSON(rules)
}

func (a *Agent) open(ctx context.Context) (*book, error) {
	filters, err := filtersOf(ctx, a.admin)
	if err != nil {
		return nil, err
	}
	return open(ctx, filters, a.stores)
}

func (a *Agent) setRules(ctx context.Context, p url.Values) (string, error) {
	t, err := typeOf(p)
	if err != nil {
		return "", err
	}
	return a.set(ctx, t, p.Get("data"))
}

func (a *Agent) setParamRules(ctx context.Context, p url.Values) (string, error) {
	return a.set(ctx, javarules.ParamFlow, p.Get("data"))
}

// set writes the rules of a type. Without data it does nothing: what is left out by mistake must not lift every limit.
func (a *Agent) set(ctx context.Context, t javarules.Type, data string) (string, error) {
	if data == "" {
		return "", badRequest("Bad data")
	}
	a.setting.Lock()
	defer a.setting.Unlock()
	b, err := a.open(ctx)
	if err == nil {
		err = b.set(ctx, t, []byte(data))
	}
	if err != nil {
		a.say("%s rules are not set: %v", t, err)
		return "", err
	}
	a.say("%s rules are set: %.2000s", t, data)
	return "success", nil
}

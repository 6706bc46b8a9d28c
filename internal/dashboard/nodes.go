package dashboard

import (
	"math"
	"slices"
	"strings"
	"time"
)

// node is what the dashboard shows of a resource, in the order in which Java Sentinel writes it.
type node struct {
	AverageRT          int64  `json:"averageRt"`
	BlockQPS           int64  `json:"blockQps"`
	ExceptionQPS       int64  `json:"exceptionQps"`
	ID                 string `json:"id,omitempty"`
	OneMinuteBlock     int64  `json:"oneMinuteBlock"`
	OneMinuteException int64  `json:"oneMinuteException"`
	OneMinutePass      int64  `json:"oneMinutePass"`
	OneMinuteTotal     int64  `json:"oneMinuteTotal"`
	ParentID           string `json:"parentId,omitempty"`
	PassQPS            int64  `json:"passQps"`
	Resource           string `json:"resource"`
	SuccessQPS         int64  `json:"successQps"`
	ThreadNum          int64  `json:"threadNum"`
	Timestamp          int64  `json:"timestamp"`
	TotalQPS           int64  `json:"totalQps"`
}

// nodes are those of all resources, by name. Of the last second they say what Envoy's gauges say, which are of all workers, and
// what ended in it by the counters.
func (h *history) nodes(now time.Time) []node {
	minutes, newest := h.minutes(), h.newest()
	whole := func(v float64) int64 { return int64(math.Round(v)) }
	all := []node{}
	for name, r := range h.last {
		minute, last := minutes[name], newest[name]
		all = append(all, node{
			Resource: name, ThreadNum: whole(r.inFlight), PassQPS: whole(r.passQPS), BlockQPS: whole(r.blockQPS),
			TotalQPS: whole(r.passQPS) + whole(r.blockQPS), AverageRT: whole(r.rtMs), SuccessQPS: whole(last.ended),
			ExceptionQPS: whole(last.failed), OneMinutePass: whole(minute.passed), OneMinuteBlock: whole(minute.blocked),
			OneMinuteException: whole(minute.failed), OneMinuteTotal: whole(minute.passed) + whole(minute.blocked),
			Timestamp: now.UnixMilli(),
		})
	}
	slices.SortFunc(all, func(a, b node) int { return strings.Compare(a.Resource, b.Resource) })
	return all
}

// tree are the nodes below a root and one entrance, as Java Sentinel has them for its contexts. Ids are the same each time.
func (h *history) tree(now time.Time) []node {
	leaves := h.nodes(now)
	sum := node{Timestamp: now.UnixMilli()}
	var rt int64
	for _, n := range leaves {
		sum.PassQPS += n.PassQPS
		sum.BlockQPS += n.BlockQPS
		sum.TotalQPS += n.TotalQPS
		sum.SuccessQPS += n.SuccessQPS
		sum.ExceptionQPS += n.ExceptionQPS
		sum.ThreadNum += n.ThreadNum
		sum.OneMinutePass += n.OneMinutePass
		sum.OneMinuteBlock += n.OneMinuteBlock
		sum.OneMinuteException += n.OneMinuteException
		sum.OneMinuteTotal += n.OneMinuteTotal
		rt += n.AverageRT * n.PassQPS
	}
	sum.AverageRT = rt / max(sum.PassQPS, 1)
	root, entrance := sum, sum
	root.ID, root.Resource = "root", "machine-root"
	entrance.ID, entrance.ParentID, entrance.Resource = "envoy", root.ID, "sentinel_envoy_context"
	all := []node{root, entrance}
	for _, n := range leaves {
		n.ID, n.ParentID = "resource:"+n.Resource, entrance.ID
		all = append(all, n)
	}
	return all
}

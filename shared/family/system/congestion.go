package system

// congested is Sentinel's estimate, after BBR, of whether more is in flight than the process can carry: more than what
// completes in a second at best, times the shortest duration. maxComplete is the most that completed in one bucket of
// bucketMs milliseconds, minRT in milliseconds.
func congested(inFlight uint32, maxComplete uint64, bucketMs, minRT uint32) bool {
	perSecond := float64(maxComplete) * 1000 / float64(bucketMs)
	return inFlight > 1 && float64(inFlight) > perSecond*float64(minRT)/1000
}

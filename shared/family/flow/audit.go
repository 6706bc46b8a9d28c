package flow

import "strconv"

// auditSlices is in how many parts an exact window's interval is audited: whoever reads it can judge as many intervals.
const auditSlices = 1000

// audit counts, while debug messages are written, what a budget decided in each bucket, by the time of the decision. It
// is how a test can judge windows: no client's clock is as near.
type audit struct {
	bucket            int64
	admitted, refused int64
}

// count adds a decision about n permits and returns, when the bucket has changed, the line about the one before.
func (a *audit) count(name string, at, n int64, ok bool, w Window) (line string) {
	if bucket := w.audited(at); bucket != a.bucket {
		line = a.line(name, w)
		*a = audit{bucket: bucket}
	}
	if ok {
		a.admitted += n
	} else {
		a.refused += n
	}
	return line
}

// undo takes a decision back, because another rule refused.
func (a *audit) undo(at, n int64, w Window) {
	if w.audited(at) == a.bucket {
		a.admitted -= n
	}
}

// audited is the number of the bucket, or of the part of an exact interval, that is audited together.
func (w Window) audited(at int64) int64 {
	if w.Ticks > 0 {
		return at / (w.BucketMs * 1e6 / auditSlices)
	}
	return w.Bucket(at)
}

// line says what was counted, or is empty.
func (a *audit) line(name string, w Window) string {
	if a.admitted == 0 && a.refused == 0 {
		return ""
	}
	length := strconv.FormatInt(w.BucketMs, 10)
	if w.Ticks > 0 {
		length += "/" + strconv.Itoa(auditSlices)
	}
	return "audit rule=" + name + " bucket_ms=" + length +
		" bucket=" + strconv.FormatInt(a.bucket, 10) +
		" admitted=" + strconv.FormatInt(a.admitted, 10) + " refused=" + strconv.FormatInt(a.refused, 10)
}

// flush returns the line about what was counted so far, and begins anew.
func (a *audit) flush(name string, w Window) string {
	line := a.line(name, w)
	*a = audit{}
	return line
}

package stat

import "testing"

// A worker that was held up reports buckets that the window has moved past meanwhile, because it was read: they are
// passed over without a complaint from sentinel-golang, which would write it to the log with its stack.
func TestReportOfAWorkerThatWasHeldUp(t *testing.T) {
	const first = 100
	for late := int64(first - windowBuckets); late <= first+2*windowBuckets; late++ {
		for read := int64(first); read <= first+2*windowBuckets; read++ {
			w := newWindow(1, first)
			w.add(&Bucket{Number: first, Counts: Counts{Pass: 1}}, &Bucket{})
			w.read(read * BucketMs * 1e6)
			before := complaints.n.Load()
			w.add(&Bucket{Number: late, Counts: Counts{Pass: 2}}, &Bucket{})
			if n := complaints.n.Load() - before; n > 0 {
				t.Fatalf("%d complaints about bucket %d after bucket %d was read", n, late, read)
			}
			if r := w.read(max(read, late) * BucketMs * 1e6); late == read && late > first && r.Pass < 2 {
				t.Errorf("%d passed in bucket %d, want the 2 that came after it was read", r.Pass, late)
			}
		}
	}
}

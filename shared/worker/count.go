package worker

import (
	"errors"
	"strconv"

	"sentinel-envoy/shared/host"
)

// Lost is how many leases this worker has found whose holders had stopped renewing them without leaving: workers that died,
// or were held up for so long. Each is found by one worker of the process. A worker that was only held up notices, and
// counts itself as returned: over all workers, those lost and not returned have died.
func (w *Worker) Lost() (lost, returned uint64) { return w.lost, w.returned }

// Count returns how many workers of each VM live at the time now, in nanoseconds, and ends the leases that have run out, whose
// slots it returns too. It reads one record for each slot that was ever taken. It fails with the host's error.
func (w *Worker) Count(now int64) (live map[uint64]int, ended []uint16, err error) {
	live = map[uint64]int{}
	for slot := range uint16(Slots) {
		key, corrupt := slotKey+strconv.Itoa(int(slot)), w.corrupt
		l, cas, err := w.get(key)
		if err != nil {
			return live, ended, err
		}
		switch {
		case cas == host.CreateOnly: // slots are taken in their order: nobody has ever had this one, or one after it
			return live, ended, nil
		case !w.isFree(l, now):
			live[l.Term]++
		case !l.vacant() || w.corrupt > corrupt: // what is no lease is counted once, and then replaced
			if err := w.vacate(key, slot, cas); err != nil && !errors.Is(err, host.ErrCASMismatch) {
				return live, ended, err
			} else if err == nil && !l.vacant() {
				w.lost++
				ended = append(ended, slot)
			}
		}
	}
	return live, ended, nil
}

// Leave gives this worker's slot up, if it has one: it ends in order. The next Beat claims one again.
func (w *Worker) Leave() error {
	if !w.held {
		return nil
	}
	w.held = false
	key := slotKey + strconv.Itoa(int(w.lease.Slot))
	l, cas, err := w.get(key)
	if err != nil || l.Identity != w.lease.Identity {
		return err
	}
	err = w.vacate(key, l.Slot, cas)
	if errors.Is(err, host.ErrCASMismatch) {
		return nil // another has just ended it
	}
	return err
}

// vacant is whether nobody has the slot of a lease, and nobody is missed.
func (l Lease) vacant() bool { return l.Epoch == 0 }

func (w *Worker) vacate(key string, slot uint16, cas uint32) error {
	return w.data.Set(key, Lease{Identity: Identity{Slot: slot}}.encode(), cas)
}

package family

// MaxWaiting bounds the entries that wait in one worker. Beyond it, one that would have to wait is refused.
const MaxWaiting = 4096

// Queue are the entries that wait in one worker for the turns of one rule. All rules share MaxWaiting places, by the dynamic
// thresholds of Choudhury and Hahne (1998): a queue may be as long as what all of them leave free. One alone gets half of
// the places, two a third each, and a rule that comes last still finds some.
type Queue struct {
	env     *Env
	waiting int
}

// NewQueue returns the empty queue of a rule.
func NewQueue(env *Env) *Queue { return &Queue{env: env} }

// IsFull is whether no other entry may wait.
func (q *Queue) IsFull() bool { return q.waiting >= MaxWaiting-q.env.waiting }

// Join counts an entry as waiting, until it calls Leave.
func (q *Queue) Join() {
	q.waiting++
	q.env.waiting++
}

// Leave ends the wait of an entry.
func (q *Queue) Leave() {
	q.waiting--
	q.env.waiting--
}

// RefuseFullQueue is the refusal of an entry for which there is no room to wait in the rule's queue. freeAt is as in Refuse.
func (b *Base) RefuseFullQueue(freeAt, now int64) *Refusal {
	b.Env.QueueFull.N++
	waiting := float64(b.Queue.waiting)
	return b.Refuse(waiting, waiting, "waiting in this worker", freeAt, now)
}

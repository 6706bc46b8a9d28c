// Package family says what a family of rules is to the engine: a Kind, which makes a Checker of each rule of a filter.
//
// Each family is a package below this one, of one shape: pure transitions of a state, a record that holds the state in
// shared data, and the rule that enters, undoes and exits. What all of them need stands here.
package family

import (
	"errors"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/machine"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// Checker is one rule as one filter applies it to one resource. Times are the monotonic clock's, in nanoseconds.
type Checker interface {
	// Enter asks the rule about one entry. It writes to t, which is empty, what the entry has taken, or returns why it is
	// refused. An error is a fault, and decides nothing.
	Enter(t *Ticket, now int64) (*Refusal, error)
	// Undo gives back what Enter took, because a later rule refused or the entry left while it waited.
	Undo(t Ticket, now int64) error
	// Answered says that the service has begun to answer an entry whose ticket asks for that, and how it ends if it goes on
	// like that. It returns what is left of the ticket.
	Answered(t Ticket, end outcome.End, now int64) (Ticket, error)
	// Status says with what an entry is answered, as far as is known, whose ticket asks for that. It reports whether that counts:
	// the rule is then told no more.
	Status(t Ticket, a outcome.Answer, now int64) (counts bool, err error)
	// Exit says how an entry ended whose ticket asks for that.
	Exit(t Ticket, end outcome.End, now int64) error
	// Of is whose rule it is.
	Of() *Base
	// Release gives up what the rule holds of its worker.
	Release(now int64)
}

// Quoter is a checker that knows what is left of a budget.
type Quoter interface {
	// Quota is what the rule has left at the time now, in nanoseconds, of the value that an entry's ticket was for. It is never
	// more than there is: what other workers hold and may give back is not in it.
	Quota(id uint64, now int64) (Quota, error)
}

// Quota is what is left of a rule's budget.
type Quota struct {
	Rule string
	// Limit is how many entries a window of WindowMs milliseconds has, Left how many of them are left now, and ResetMs in how
	// many milliseconds all are, if nobody asks meanwhile.
	Limit, WindowMs, Left, ResetMs int64
}

// ResetIn sets when all is left, in nanoseconds.
func (q *Quota) ResetIn(at, now int64) { q.ResetMs = max(at-now+999_999, 0) / 1e6 }

// Ticket is what a rule must know later of an entry that it has let in. What At and ID mean is the rule's. It has no more
// than four fields in any struct, and 32 bytes: the compiler copies larger ones by a call.
type Ticket struct {
	At int64
	ID uint64
	Later
	Wants
}

// Later is that a rule has not said all yet.
type Later struct {
	// Waits is whether the entry has to wait until At, in nanoseconds.
	Waits bool
	// Retry is whether it has to be asked about anew then: it has no place in a line, and whoever knows that the answer has
	// changed may let it be asked before.
	Retry bool
	// Again is whether the rule must be asked again, about the stream's next value of its parameter.
	Again bool
}

// Statuses are what a rule wants to know of an entry's answer.
type Statuses uint8

// The statuses, each with those before. That of gRPC may come behind all else of an answer.
const (
	NoStatus Statuses = iota
	HTTPStatus
	GRPCStatus
)

// StatusesOf are those that it takes to know some answers.
func StatusesOf(a *rule.Answers) Statuses {
	if a.GRPC != 0 {
		return GRPCStatus
	}
	return HTTPStatus
}

// Wants is what a rule wants to know of an entry: Exit how it ends, Answer also when the service begins to answer, Status
// what its client is answered with. Permits is how many the entry has taken, of a rule that must know it to give
// them back.
type Wants struct {
	Exit, Answer bool
	Status       Statuses
	Permits      uint32
}

// ErrUndecided is the error of a rule that depends on somebody who does not answer: the failure mode decides. It is no
// fault.
var ErrUndecided = errors.New("undecided")

// Observer counts what becomes of the entries of a resource, for rules that look at more than their own entries.
type Observer interface {
	Passed(now int64)
	Refused(now int64)
	Ended(end outcome.End, now int64)
	// Interest is what it looks at of how an entry ends.
	Interest() Interest
}

// Interest is what somebody looks at of how an entry ends. Each includes those before it, and costs more to find out.
type Interest uint8

// The interests.
const (
	InNothing  Interest = iota
	InTimes             // how long the service took, if it was asked at all
	InFailures          // whether it failed
)

// Kind is a family in one worker.
type Kind interface {
	// Bind makes the checker of a rule, as a filter applies it to a resource; "" stands for all of the filter's.
	Bind(r rule.Rule, f *Filter, resource string) Checker
	// Observers appends those of a resource. Env.Observe says that they have changed.
	Observers(dst []Observer, resource string) []Observer
	// Tick does what is due in each tick: it returns permits, renews leases, brings records up to date.
	Tick(now int64)
	// Records calls f with all that must be marked as in use.
	Records(f func(Toucher))
	// Export exports the metrics of the kind's own.
	Export(now int64)
}

// Toucher has records that must be marked as in use.
type Toucher interface{ Touch(now int64) error }

// Filter is what rules know of the filter that they are in.
type Filter struct {
	Name string
	Mode config.Mode
	// Stream is what parameters are read from: the stream that is being asked about.
	Stream *request.Stream
	// Machine is where the figures of the machine come from, nil if from nowhere.
	Machine *machine.Source
}

// NoKind is the part of a Kind that many do not have.
type NoKind struct{}

// Observers implements Kind.
func (NoKind) Observers(dst []Observer, _ string) []Observer { return dst }

// Export implements Kind.
func (NoKind) Export(int64) {}

package envoyhost

import (
	"errors"
	"strconv"
)

// rpcs are the calls by gRPC that have no answer yet, by the tokens that Envoy gave them. There are as many as rules of the VM
// that wait for a service: each makes one at a time.
var rpcs = map[uint32]func(answer []byte, err error){}

// ErrNoRPC means that Envoy does not take a call, for instance because it has no such cluster.
var ErrNoRPC = errors.New("the call was refused: has Envoy the cluster?")

// AnswerRPC gives a call its answer, which has size bytes, in Envoy's callback about it.
func AnswerRPC(token uint32, size int) {
	if answered := takeRPC(token); answered != nil {
		answered(rpcAnswer(size))
	}
}

// EndRPC says that a call has ended without an answer, with a status of gRPC's.
func EndRPC(token, status uint32) {
	if answered := takeRPC(token); answered != nil {
		answered(nil, errors.New("gRPC status "+strconv.FormatUint(uint64(status), 10)))
	}
}

func takeRPC(token uint32) func(answer []byte, err error) {
	answered := rpcs[token]
	delete(rpcs, token)
	return answered
}

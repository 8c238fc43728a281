// Package load asks a server for decisions, as fast as the server answers or at a fixed rate, and checks
// every answer. It costs less CPU time than any server that it asks: a call needs no goroutine of its own,
// and many calls share one write.
//
// Starting servers, and comparing them, is not its business. This package is not part of the public API and
// may change in any release.
package load

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Answer has the checked parts of an answer. The zero value is the answer of an empty server.
type Answer struct {
	Decision countersignv1.Decision
	Reason   countersignv1.Reason
}

// String returns the answer as people write it: ALLOW TOKEN_VALID. An answer without a reason has only the
// decision.
func (a Answer) String() string {
	decision, reason := strings.TrimPrefix(a.Decision.String(), "DECISION_"), strings.TrimPrefix(a.Reason.String(), "REASON_")
	if a.Reason == 0 {
		return decision
	}
	return decision + " " + reason
}

// satisfies tells whether an answer equals the wanted one. A wanted answer without a reason accepts any
// reason.
func (a Answer) satisfies(want Answer) bool {
	return a.Decision == want.Decision && (a.Reason == want.Reason || want.Reason == 0)
}

// Question is a request whose right answer is known. It is immutable.
type Question struct {
	// Request is the request; nil is the empty message.
	Request *countersignv1.AuthorizeRequest
	// Want is the right answer.
	Want Answer

	// message is the request as gRPC sends it: a byte that means "not compressed", 4 bytes of length, and the
	// message.
	message []byte
}

// maxMessage is the largest size of a message, in bytes. With its headers it fits into one HTTP/2 frame, and
// several fit into the window of a new connection.
const maxMessage = 8 << 10

// NewQuestion returns a question. It fails when the request is too large.
func NewQuestion(request *countersignv1.AuthorizeRequest, want Answer) (Question, error) {
	q := Question{Request: request, Want: want, message: make([]byte, 5)}
	if request != nil {
		var err error
		if q.message, err = (proto.MarshalOptions{}).MarshalAppend(q.message, request); err != nil {
			return q, err
		}
	}
	if len(q.message) > maxMessage {
		return q, fmt.Errorf("a request of %d bytes: want at most %d", len(q.message), maxMessage)
	}
	binary.BigEndian.PutUint32(q.message[1:], uint32(len(q.message)-5))
	return q, nil
}

// Deck repeats questions in the same random order without end. It is safe for concurrent use.
type Deck struct {
	questions []Question
	next      atomic.Uint64
}

// NewDeck returns a deck of at least one question.
func NewDeck(questions []Question, seed uint64) *Deck {
	d := &Deck{questions: append([]Question(nil), questions...)}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(d.questions), func(i, j int) {
		d.questions[i], d.questions[j] = d.questions[j], d.questions[i]
	})
	return d
}

// Len returns the number of questions before they repeat.
func (d *Deck) Len() int { return len(d.questions) }

// take returns the next question.
func (d *Deck) take() *Question {
	return &d.questions[(d.next.Add(1)-1)%uint64(len(d.questions))]
}

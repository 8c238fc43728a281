// Package load asks a server for decisions, as fast as it answers or at a fixed rate, and checks every
// answer. It is made to cost less than any server that it asks: a call is a few hundred bytes in a buffer
// that many calls share, and no goroutine of its own. This package is not part of the public API and may
// change in any release.
//
// It knows calls and answers, and nothing of how servers are started, measured or compared.
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

// Answer is what is checked of an answer. The zero value is that of an empty server.
type Answer struct {
	Decision countersignv1.Decision
	Reason   countersignv1.Reason
}

// String returns what people call the answer: ALLOW, TOKEN_VALID. It has no reason when any will do.
func (a Answer) String() string {
	decision, reason := strings.TrimPrefix(a.Decision.String(), "DECISION_"), strings.TrimPrefix(a.Reason.String(), "REASON_")
	if a.Reason == 0 {
		return decision
	}
	return decision + " " + reason
}

// satisfies tells whether an answer is the one that was wanted; a wanted answer without a reason leaves
// that open.
func (a Answer) satisfies(want Answer) bool {
	return a.Decision == want.Decision && (a.Reason == want.Reason || want.Reason == 0)
}

// Question is one call whose right answer is known. It is immutable.
type Question struct {
	// Request is what is asked; nil is the empty message.
	Request *countersignv1.AuthorizeRequest
	// Want is the right answer.
	Want Answer

	// message is the request as gRPC sends it: a byte that says it is not compressed, 4 of length, and the
	// message.
	message []byte
}

// maxMessage is the most bytes of a message: with its headers it fits one frame of HTTP/2, and many fit the
// window that every connection begins with.
const maxMessage = 8 << 10

// NewQuestion returns a question. Its error says that the request is too large.
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

// Deck hands out questions, again and again in the same random order. It is safe for concurrent use.
type Deck struct {
	questions []Question
	next      atomic.Uint64
}

// NewDeck shuffles at least one question.
func NewDeck(questions []Question, seed uint64) *Deck {
	d := &Deck{questions: append([]Question(nil), questions...)}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(d.questions), func(i, j int) {
		d.questions[i], d.questions[j] = d.questions[j], d.questions[i]
	})
	return d
}

// Len returns how many different questions there are.
func (d *Deck) Len() int { return len(d.questions) }

// take returns the next question.
func (d *Deck) take() *Question {
	return &d.questions[(d.next.Add(1)-1)%uint64(len(d.questions))]
}

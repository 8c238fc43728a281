package authorize

import (
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// answers is a message that is filled and sent again and again: what it is made of is allocated once, for the largest
// number of answers that it has had. That is safe since SendMsg has encoded a message when it returns; only a
// stats.Handler or the tracing of x/net could still look at it, and servers here have neither. The zero value is empty.
type answers struct {
	out   countersignv1.AuthorizeStreamResponse
	first countersignv1.AuthorizeStreamResponse_Response
	// results are those of the message, then such as wait for their next use; each has its decision.
	results   []*countersignv1.AuthorizeStreamResult
	decisions []*countersignv1.AuthorizeStreamResult_Response
	n         int
}

func (a *answers) clear()      { a.n = 0 }
func (a *answers) empty() bool { return a.n == 0 }

// next returns the index of a further answer.
func (a *answers) next(sequence uint64) int {
	if a.n == len(a.results) {
		a.results = append(a.results, new(countersignv1.AuthorizeStreamResult))
		a.decisions = append(a.decisions, &countersignv1.AuthorizeStreamResult_Response{
			Response: &countersignv1.AuthorizeResponse{DataAge: new(durationpb.Duration)},
		})
	}
	a.results[a.n].Sequence = sequence
	a.n++
	return a.n - 1
}

// decided adds an answer.
func (a *answers) decided(sequence uint64, answer validator.Answer) {
	i := a.next(sequence)
	fill(a.decisions[i].Response, answer)
	a.results[i].Result = a.decisions[i]
}

// failed adds the status that a request got in place of an answer.
func (a *answers) failed(sequence uint64, told *status.Status) {
	a.results[a.next(sequence)].Result = &countersignv1.AuthorizeStreamResult_Error{Error: &countersignv1.AuthorizeError{
		Code: int32(told.Code()), Reason: apierr.ReasonOf(told.Err()), Message: told.Message(), Details: told.Proto().GetDetails(),
	}}
}

// message returns the answers, of which there must be one; they are good until the next one is added. The first stands
// in the message itself, so that a lone answer is in no list.
func (a *answers) message() *countersignv1.AuthorizeStreamResponse {
	first := a.results[0]
	a.out.Sequence = first.GetSequence()
	if failed := first.GetError(); failed != nil {
		a.out.Result = &countersignv1.AuthorizeStreamResponse_Error{Error: failed}
	} else {
		a.first.Response = first.GetResponse()
		a.out.Result = &a.first
	}
	a.out.More = a.results[1:a.n]
	return &a.out
}

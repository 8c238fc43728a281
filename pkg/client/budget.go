package client

import "sync/atomic"

const (
	// A budget begins with most tokens, and has no more. answersPerToken answers earn one token. With half
	// of the tokens or fewer no second question is asked. The rule is from gRPC A6, "Throttling Retry
	// Attempts and Hedged RPCs", with the largest bucket that it allows, since a validator that stops at
	// 10,000 questions a second leaves hundreds of questions unanswered before it is avoided.
	most            = 1000
	answersPerToken = 10
)

// budget bounds second questions, so that an outage of all validators does not double their load: at most
// 500 are asked then, and one for ten answers. It is safe for concurrent use.
type budget struct{ spent atomic.Int64 } // in parts of a token: answersPerToken are one

// answered counts a question that a validator has decided.
func (b *budget) answered() {
	for {
		spent := b.spent.Load()
		if spent <= 0 || b.spent.CompareAndSwap(spent, spent-1) {
			return
		}
	}
}

// failed counts a question that a validator has not decided, or not soon enough.
func (b *budget) failed() {
	for {
		spent := b.spent.Load()
		next := min(spent+answersPerToken, most*answersPerToken)
		if b.spent.CompareAndSwap(spent, next) {
			return
		}
	}
}

// allows tells whether a second question may be asked.
func (b *budget) allows() bool { return b.spent.Load() < most*answersPerToken/2 }

package client

import "sync/atomic"

const (
	// most is how many tokens a budget has at most, and at first; answersPerToken how many answers earn
	// one. No second question is asked with half of the tokens or fewer. These are the numbers of gRPC A6,
	// "Throttling Retry Attempts and Hedged RPCs", with the largest bucket that it allows: a validator that
	// stops at 10,000 questions a second leaves hundreds unanswered before it is left alone.
	most            = 1000
	answersPerToken = 10
)

// budget bounds second questions, so that an outage of all validators does not double what they are asked:
// at most 500 are asked then, and one for ten answers. It is safe for concurrent use.
type budget struct{ spent atomic.Int64 } // tokens, in parts of answersPerToken

// answered counts a question that has been decided.
func (b *budget) answered() {
	for {
		spent := b.spent.Load()
		if spent <= 0 || b.spent.CompareAndSwap(spent, spent-1) {
			return
		}
	}
}

// failed counts a question that a validator did not decide, or not soon enough.
func (b *budget) failed() {
	for {
		spent := b.spent.Load()
		next := min(spent+answersPerToken, most*answersPerToken)
		if b.spent.CompareAndSwap(spent, next) {
			return
		}
	}
}

// allows tells whether a question may be asked a second time.
func (b *budget) allows() bool { return b.spent.Load() < most*answersPerToken/2 }

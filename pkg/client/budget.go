package client

import "sync/atomic"

const (
	// A budget begins with `most` tokens, and never has more. Each failed question costs one token;
	// answersPerToken answers earn one. With half of the tokens or fewer, no second question is asked. The
	// rule is from gRPC A6, "Throttling Retry Attempts and Hedged RPCs", with the largest bucket that it
	// allows. A smaller bucket would not do: when a validator stops at 10,000 questions a second, hundreds of
	// questions stay unanswered before the client avoids it.
	most            = 1000
	answersPerToken = 10
)

// budget bounds second questions, so that an outage of all validators does not double their load. In an
// outage it allows fewer than 500 second questions, and one more for each ten answers. It is safe for
// concurrent use.
type budget struct{ spent atomic.Int64 } // in parts of a token: answersPerToken are one

// answered counts a question that a validator decided. It earns a tenth of a token.
func (b *budget) answered() {
	for {
		spent := b.spent.Load()
		if spent <= 0 || b.spent.CompareAndSwap(spent, spent-1) {
			return
		}
	}
}

// failed counts a question that a validator did not decide, or not soon enough. It costs one token.
func (b *budget) failed() {
	for {
		spent := b.spent.Load()
		next := min(spent+answersPerToken, most*answersPerToken)
		if b.spent.CompareAndSwap(spent, next) {
			return
		}
	}
}

// allows reports whether a second question may be asked: more than half of the tokens are left.
func (b *budget) allows() bool { return b.spent.Load() < most*answersPerToken/2 }

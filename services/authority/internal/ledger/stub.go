package ledger

import "time"

// History is everything that was counted of one app.
type History struct{}

// Sums returns the counts since a time, and when the oldest of them begin.
func (*History) Sums(since time.Time) (sums []Sum, from time.Time) { return nil, since }

// LastUses returns when each token was last used for each scope.
func (*History) LastUses() []LastUse { return nil }

package rules

import (
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// named is a token that gets its name, or comes back to life with it. field precedes "name" in errors; see
// NewToken.
type named struct{ id, field string }

// withAdded finishes a call that gives tokens their names, or brings tokens back to life. It checks that the
// names are free and, when the call adds tokens that count (grows), that the limits allow them (B01). It
// checks nothing else: a call must not be refused for something that was in the document before, least of all
// a call that takes something away.
func withAdded(after *record.Document, by By, grows bool, names ...named) (*record.Document, error) {
	after = forget(after, by)
	l := liveOf(after, by.millis())
	for _, n := range names {
		t := l.byID[n.id]
		if t != nil && countsAsLive(t, l.now) && l.holdsName(t) && len(l.names[t.Name]) > 1 {
			return nil, taken("NAME_TAKEN", "%sname: an active or disabled token of the app has the name %q", n.field, t.Name)
		}
	}
	if !grows {
		return after, nil
	}
	if l.count > MaxTokens {
		return nil, full("TOO_MANY_TOKENS", "the app would have %d active or disabled tokens, at most %d are allowed", l.count,
			MaxTokens)
	}
	if n := len(after.Tokens) + after.Memory.Len(); n > MaxDigests {
		return nil, full("TOO_MANY_DIGESTS",
			"the app would have %d tokens, with those that were revoked and are remembered for ever; at most %d are allowed: go "+
				"on with another app",
			n, MaxDigests)
	}
	return after, nil
}

// live has the ACTIVE and DISABLED tokens of a document.
type live struct {
	now   int64
	byID  map[string]*record.Token
	count int
	// names has the tokens that hold each name.
	names map[string][]*record.Token
}

func liveOf(d *record.Document, nowMillis int64) *live {
	l := &live{now: nowMillis, byID: make(map[string]*record.Token, len(d.Tokens)), names: map[string][]*record.Token{}}
	for i := range d.Tokens {
		l.byID[d.Tokens[i].ID] = &d.Tokens[i]
	}
	for i := range d.Tokens {
		t := &d.Tokens[i]
		if !countsAsLive(t, nowMillis) {
			continue
		}
		l.count++
		if l.holdsName(t) {
			l.names[t.Name] = append(l.names[t.Name], t)
		}
	}
	return l
}

// holdsName tells whether a live token's name is its own. A rotated token has passed its name to its
// successor.
func (l *live) holdsName(t *record.Token) bool { return !l.hasHeir(t) }

// hasHeir tells whether a direct or indirect successor of a token is ACTIVE or DISABLED.
func (l *live) hasHeir(t *record.Token) bool {
	// The loop ends, since a successor is created after its predecessor.
	for next := l.byID[t.SuccessorID]; next != nil; next = l.byID[next.SuccessorID] {
		if countsAsLive(next, l.now) {
			return true
		}
	}
	return false
}

// countsAsLive tells whether a token is ACTIVE or DISABLED, and so counts for the limit and for unique names
// (B01).
func countsAsLive(t *record.Token, nowMillis int64) bool {
	state := t.StateAt(nowMillis)
	return state == policy.Active || state == policy.Disabled
}

package rules

import (
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// named is a token that gets its name, or comes back with it. The field stands before "name" in errors; see
// NewToken.
type named struct{ id, field string }

// withAdded is the end of a call that gives some tokens their names, or brings them back, and may thereby
// add to those that count. It makes sure that the names are free and, when tokens are added, that there is
// room for them (B01). Nothing else is checked: a call must not be refused for what the document has
// anyway, least of all one that takes away.
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
		return nil, full("TOO_MANY_TOKENS", "the app would have %d active or disabled tokens, at most %d are allowed", l.count, MaxTokens)
	}
	if n := len(after.Tokens) + after.Memory.Len(); n > MaxDigests {
		return nil, full("TOO_MANY_DIGESTS",
			"the app would have %d tokens, with those that were revoked and are remembered for ever; at most %d are allowed: go on with another app",
			n, MaxDigests)
	}
	return after, nil
}

// live is what is ACTIVE or DISABLED in a document.
type live struct {
	now   int64
	byID  map[string]*record.Token
	count int
	// names are the tokens that hold each name.
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

// holdsName tells whether a live token's name is its own: it has not gone on to a successor.
func (l *live) holdsName(t *record.Token) bool { return !l.hasHeir(t) }

// hasHeir tells whether a token was rotated and its successor, or that one's successor and so on, is ACTIVE
// or DISABLED.
func (l *live) hasHeir(t *record.Token) bool {
	// A successor is made after its predecessor, so this ends.
	for next := l.byID[t.SuccessorID]; next != nil; next = l.byID[next.SuccessorID] {
		if countsAsLive(next, l.now) {
			return true
		}
	}
	return false
}

// countsAsLive tells whether a token counts for the limit and for unique names: ACTIVE or DISABLED (B01).
func countsAsLive(t *record.Token, nowMillis int64) bool {
	state := t.StateAt(nowMillis)
	return state == policy.Active || state == policy.Disabled
}

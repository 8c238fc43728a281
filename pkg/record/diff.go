package record

// TokenChange is what a change did to one token of an app.
type TokenChange struct {
	// Before is nil for a new token. After is nil for a token that left the document.
	Before, After *Token
}

// TokenChanges compares the tokens of two documents of one app by their ids. Before is nil for a new app.
// New and changed tokens come first, in the order of after; then tokens that left, in the order of before.
// The result points into the documents.
func TokenChanges(before, after *Document) (changes []TokenChange) {
	old := map[string]*Token{}
	if before != nil {
		for i := range before.Tokens {
			old[before.Tokens[i].ID] = &before.Tokens[i]
		}
	}
	for i := range after.Tokens {
		t := &after.Tokens[i]
		was := old[t.ID]
		delete(old, t.ID)
		if was == nil || *was != *t {
			changes = append(changes, TokenChange{was, t})
		}
	}
	if len(old) == 0 {
		return changes
	}
	for i := range before.Tokens {
		if was := old[before.Tokens[i].ID]; was == &before.Tokens[i] {
			changes = append(changes, TokenChange{Before: was})
		}
	}
	return changes
}

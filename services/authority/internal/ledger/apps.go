package ledger

import (
	"errors"

	"github.com/countersign/countersign/pkg/table"
)

var errNotLoaded = errors.New("the app's partition is not loaded")

// OfTable returns the apps of a table.
func OfTable(t *table.Table) Apps { return tableApps{t} }

type tableApps struct{ table *table.Table }

// Tokens implements Apps. The tokens of an app whose policy could not be read are not known: nil.
func (t tableApps) Tokens(appID string) (ids map[string]bool, known bool, err error) {
	view := t.table.Find(appID)
	switch {
	case !view.Loaded:
		return nil, false, errNotLoaded
	case !view.Row.Known():
		return nil, view.Missing, nil
	}
	p, readable := view.Row.Policy()
	if !readable {
		return nil, true, nil
	}
	ids = make(map[string]bool, p.Len())
	for _, token := range p.Tokens() {
		ids[token.ID] = true
	}
	return ids, true, nil
}

package ledger

import (
	"errors"
	"time"

	"github.com/countersign/countersign/pkg/replica"
)

var (
	errNotLoaded = errors.New("the app's partition is not loaded")
	errNotNow    = errors.New("the app may be newer than this authority's copy of the store")
)

// OfReplica returns the apps of a replica.
func OfReplica(r *replica.Replica) Apps { return replicaApps{r} }

type replicaApps struct{ replica *replica.Replica }

// Tokens implements Apps. The tokens of an app are not known, and nil, while its policy cannot be read or is
// older than the store's, and while the replica may lack changes that validators have.
func (a replicaApps) Tokens(appID string) (ids map[string]bool, known bool, err error) {
	table := a.replica.Table()
	place := table.Locate(appID)
	// The order matters: what the replica had when it was complete is in the view.
	complete := a.complete(place.Partition)
	view := table.FindAt(place, appID)
	switch {
	case !view.Loaded:
		return nil, false, errNotLoaded
	case !view.Row.Known() && view.Missing:
		return nil, true, nil
	case !view.Row.Known() && !complete:
		return nil, false, errNotNow
	case !view.Row.Known():
		return nil, false, nil
	}
	p, readable := view.Row.Policy()
	if !readable || view.Row.Behind() || !complete {
		return nil, true, nil
	}
	ids = make(map[string]bool, p.Len())
	for _, token := range p.Tokens() {
		ids[token.ID] = true
	}
	return ids, true, nil
}

// complete reports whether a partition has the changes that validators have. A validator may have a change
// that the replica lacks while the replica does not reach the store, and while the store lacks changes that
// the fleet brings back. Otherwise the replica has each change milliseconds after it was made, or at the next
// poll. A validator hands up the counts of 10 s together, so their tokens have usually arrived by then.
func (a replicaApps) complete(partition int) bool {
	_, stale := a.replica.Freshness(partition, time.Now())
	_, unhealed := a.replica.Unhealed(partition)
	return !stale && !unhealed && !a.replica.Forked(partition)
}

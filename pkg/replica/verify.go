package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrUnproven says that the head, the log and the documents of a partition do not agree, or cannot be
// verified. Another attempt would find the same.
var ErrUnproven = errors.New("the partition of the store does not prove")

// Verify reads a whole partition of the store and proves it, as a load does. It changes nothing in the
// replica. It returns the apps whose documents do not verify. It fails with ErrUnproven when the proof fails.
// Any other error says nothing about the store. A long-running process calls it to find records that were
// altered in the store after they were loaded. Verify shares the slots of loads.
func (r *Replica) Verify(ctx context.Context, number int) (damaged []string, err error) {
	// Verify makes its own partition, because only the worker may use the worker's fields.
	p := &partition{
		number: number, r: r, log: r.log.With("partition", number), limit: tailLimit,
		state: state{revoked: stickies{}}, verifyOnly: true,
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	work, release, err := r.throttle.acquire(ctx, r.throttle.loads)
	if err != nil {
		return nil, err
	}
	defer release()
	documents, err := p.proven(ctx, work)
	switch failureOf(err) {
	case failureType, failureHead, failureLog, failureDigest:
		return nil, fmt.Errorf("%w: %w", ErrUnproven, err)
	}
	for appID, d := range documents {
		if d.damage != nil {
			damaged = append(damaged, appID)
		}
	}
	slices.Sort(damaged)
	return damaged, err
}

// proven reads all documents and proves them.
func (p *partition) proven(ctx context.Context, work *pacer) (map[string]*document, error) {
	first, err := p.firstHead(ctx)
	if err != nil {
		return nil, err
	}
	documents, err := p.readDocuments(ctx, work)
	if err != nil {
		return nil, err
	}
	to, err := p.replay(ctx, work, documents, stickies{}, first.Cursor)
	if err != nil {
		return nil, err
	}
	_, err = p.prove(ctx, work, documents, to.head)
	return documents, err
}

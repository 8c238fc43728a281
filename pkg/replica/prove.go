package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/countersign/countersign/pkg/record"
)

// maxSearch bounds how many digests a proof tries: about a second of work.
const maxSearch = 1 << 20

// search identifies a failed search of a proof, so that the worker does not repeat it.
type search struct {
	head record.Cursor
	apps string
}

var errDoesNotAddUp = errors.New("the documents do not add up to the head's count and digest")

// prove finds the documents that the head counts: they add up to the head's number of documents and to its
// digest of app ids and revisions. It removes the other documents, and returns the sum of the counted ones.
//
// A damaged document counts with the revision that it claims. If the head counts exactly one damaged document
// and no claim fits, prove searches for the revision that makes the digest fit. When there are more documents
// than the head counts, prove leaves out damaged ones if the rest adds up to the digest. That proves that the
// store has no policy under their names. So damage affects only its own app.
//
// A document that verifies is never left out, since the store may have lost the head that counts it. When
// nothing fits, nothing in the partition can be trusted: a damaged document may hide a missing or an old one.
func (p *partition) prove(ctx context.Context, work *pacer, documents map[string]*document, head record.Head) (record.Sum,
	error,
) {
	c := count{p: p, head: head, good: head.State.EmptySum(), left: maxSearch}
	for appID, d := range documents {
		work.step()
		element := p.r.codec.Add(head.State.EmptySum(), p.number, appID, d.entry.Revision)
		if d.damage == nil {
			c.good = c.good.Plus(element)
		} else {
			c.damaged = append(c.damaged, damaged{appID, d.entry.Revision, element})
		}
	}
	unproven := fmt.Errorf("%w: there are %d documents, %d of them damaged; the head counts %d", errDoesNotAddUp,
		len(documents), len(c.damaged), head.Policies)
	whole := len(documents) - len(c.damaged)
	if head.Policies < uint64(whole) || head.Policies > uint64(len(documents)) {
		return c.good, unproven
	}
	// A document that claims no revision is the first to be left out.
	slices.SortFunc(c.damaged, func(a, b damaged) int {
		return cmp.Or(cmp.Compare(min(b.revision, 1), min(a.revision, 1)), cmp.Compare(a.appID, b.appID))
	})
	counted, sum, found := c.byClaims(work, int(head.Policies)-whole)
	if !found {
		this := search{head.Cursor, c.names()}
		if p.searched == this {
			return c.good, unproven
		}
		if counted, sum, found = c.byRevision(ctx, work, int(head.Policies)-whole); !found {
			if ctx.Err() == nil {
				p.searched = this
			}
			return c.good, unproven
		}
	}
	for i, d := range c.damaged {
		if at := slices.Index(counted, i); at >= 0 {
			documents[d.appID].entry.Revision = d.revision
			continue
		}
		p.stray(d.appID)
		delete(documents, d.appID)
	}
	return sum, nil
}

// count searches for the damaged documents that a head counts.
type count struct {
	p       *partition
	head    record.Head
	good    record.Sum
	damaged []damaged
	// left is how many digests may still be tried.
	left int
}

// damaged is a document that does not verify. element is what it adds to the sum at the revision that it
// claims.
type damaged struct {
	appID    string
	revision uint64
	element  record.Sum
}

func (c *count) names() string {
	names := make([]string, len(c.damaged))
	for i, d := range c.damaged {
		names[i] = d.appID
	}
	return strings.Join(names, " ")
}

func (c *count) fits(work *pacer, sum record.Sum) bool {
	work.step()
	c.left--
	return c.p.r.codec.SealSum(c.p.number, sum) == c.head.State
}

// byClaims tries every choice of n damaged documents, each at the revision that it claims, and returns the
// indices of the choice that fits.
func (c *count) byClaims(work *pacer, n int) (counted []int, sum record.Sum, found bool) {
	chosen := make([]int, n)
	for i := range chosen {
		chosen[i] = i
	}
	for c.left > 0 {
		sum = c.good
		for _, i := range chosen {
			sum = sum.Plus(c.damaged[i].element)
		}
		if c.fits(work, sum) {
			return chosen, sum, true
		}
		c.left -= n / 16 // adding costs less than a digest
		if !next(chosen, len(c.damaged)) {
			break
		}
	}
	return nil, sum, false
}

// next makes the next choice of indices below n in lexicographic order. It returns false after the last one.
func next(chosen []int, n int) bool {
	for i := len(chosen) - 1; i >= 0; i-- {
		if chosen[i] < n-len(chosen)+i {
			chosen[i]++
			for j := i + 1; j < len(chosen); j++ {
				chosen[j] = chosen[j-1] + 1
			}
			return true
		}
	}
	return false
}

// byRevision searches for the revision at which one damaged document makes the digest fit. It finds nothing
// unless the head counts exactly one damaged document.
func (c *count) byRevision(ctx context.Context, work *pacer, n int) (counted []int, sum record.Sum, found bool) {
	if n != 1 {
		return nil, sum, false
	}
	for i := range c.damaged {
		for r := c.head.Revision; r > 0 && c.left > 0 && ctx.Err() == nil; r-- {
			sum = c.p.r.codec.Add(c.good, c.p.number, c.damaged[i].appID, r)
			if c.fits(work, sum) {
				c.damaged[i].revision = r
				return []int{i}, sum, true
			}
		}
	}
	return nil, sum, false
}

// stray counts and logs a field of the policies that is not a policy of the store.
func (p *partition) stray(field string) {
	p.r.stats.Strays.Add(1)
	p.r.logs.error(p.log, "a field of the policies is no policy of the store; it is left out (countersign store repair)",
		"field", printable(field))
}

// maxFieldShown is the most bytes of a field's name that are logged.
const maxFieldShown = 100

func printable(field string) string {
	return strconv.QuoteToASCII(field[:min(len(field), maxFieldShown)])
}

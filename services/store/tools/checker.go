package tools

import (
	"errors"
	"fmt"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/snapshot"
)

// target receives what a checker passes on.
type target interface {
	snapshot.Sink
	// done ends a partition.
	done(proof) error
}

// proof is what a checker has proven of a partition.
type proof struct {
	partition int
	// head is nil when it is missing or does not verify.
	head *record.Head
	// highest has the highest epoch and revision of all verified records. Last is the last entry of the log.
	highest, last record.Cursor
	// count, sum and audit cover the verified documents and rows.
	count uint64
	sum   record.Sum
	audit record.AuditTail
}

var _ snapshot.Sink = (*checker)(nil)

// checker verifies the records that it receives and passes them on. finish ends the last partition.
type checker struct {
	codec *record.Codec
	// next receives the records; nil for none. With onlyGood it receives only verified ones.
	next     target
	onlyGood bool

	findings []Finding
	totals   Totals

	proof
	keys    record.Keys
	begun   bool
	logs    bool // the log has an entry
	severed bool // the audit trail could not be followed further
}

func (c *checker) find(where, format string, args ...any) {
	c.findings = append(c.findings, Finding{Where: where, What: fmt.Sprintf(format, args...)})
}

// Partition implements snapshot.Sink.
func (c *checker) Partition(number int, head []byte) error {
	if err := c.finish(); err != nil {
		return err
	}
	c.proof, c.keys, c.begun, c.logs, c.severed = proof{partition: number}, record.KeysOf(number), true, false, false
	c.totals.Partitions++
	opened, err := c.codec.OpenHead(number, head)
	switch {
	case head == nil:
		c.find(c.keys.Head, "is missing")
	case err != nil:
		c.find(c.keys.Head, "does not verify: %v", err)
	default:
		c.head, c.highest, c.sum = &opened, opened.Cursor, opened.State.EmptySum()
	}
	if c.next == nil {
		return nil
	}
	if c.onlyGood && c.head == nil {
		head = nil
	}
	return c.next.Partition(number, head)
}

// Document implements snapshot.Sink.
func (c *checker) Document(appID string, raw []byte) error {
	where := c.keys.Policies + " " + appID
	d, err := c.codec.OpenDocument(appID, raw)
	switch {
	case !policy.ValidAppID(appID):
		c.find(where, "is no app id")
	case c.codec.PartitionOf(appID) != c.partition:
		c.find(where, "is in the wrong partition, want %d", c.codec.PartitionOf(appID))
	case err != nil:
		c.find(where, "does not verify: %v", err)
	default:
		if c.head != nil && d.Revision > c.head.Revision {
			c.find(where, "is of revision %d, the head only of %d", d.Revision, c.head.Revision)
		}
		c.count++
		c.totals.Apps++
		c.sum = c.codec.Add(c.sum, c.partition, appID, d.Revision)
		c.raise(d.Cursor)
		return c.pass(func() error { return c.next.Document(appID, raw) })
	}
	return c.passBad(func() error { return c.next.Document(appID, raw) })
}

// Entry implements snapshot.Sink. Each entry must continue the one before, except at the beginning of the
// log.
func (c *checker) Entry(e record.RawEntry) error {
	where := fmt.Sprintf("%s %d", c.keys.Log, e.Revision)
	opened, err := c.codec.OpenEntry(c.partition, e)
	at := opened.Cursor
	switch {
	case errors.Is(err, record.ErrMisplaced):
		c.find(where, "is of revision %d", at.Revision)
		return c.passBad(func() error { return c.next.Entry(e) })
	case err != nil:
		c.find(where, "does not verify: %v", err)
		return c.passBad(func() error { return c.next.Entry(e) })
	case c.head != nil && at.Revision > c.head.Revision:
		c.find(where, "is beyond the head, which is of revision %d", c.head.Revision)
	case c.logs && opened.Previous != c.last:
		c.find(where, "does not continue revision %d", c.last.Revision)
	}
	c.last, c.logs = at, true
	c.totals.Links++
	c.raise(at)
	return c.pass(func() error { return c.next.Entry(e) })
}

// Audit implements snapshot.Sink. After a break in the trail, rows cannot be told from forgeries.
func (c *checker) Audit(sequence uint64, raw []byte) error {
	if !c.severed {
		_, tail, err := c.codec.OpenAudit(c.partition, c.audit, raw)
		if err == nil && tail.Sequence == sequence {
			c.audit = tail
			c.totals.AuditRows++
			return c.pass(func() error { return c.next.Audit(sequence, raw) })
		}
		c.severed = true
		what := "stands under a number that is not its own"
		if err != nil {
			what = err.Error()
		}
		c.find(fmt.Sprintf("%s %d", c.keys.Audit, sequence), "the trail breaks off behind row %d: %s", c.audit.Sequence, what)
	}
	return c.passBad(func() error { return c.next.Audit(sequence, raw) })
}

func (c *checker) raise(at record.Cursor) {
	c.highest = record.Highest(c.highest, at)
}

func (c *checker) pass(on func() error) error {
	if c.next == nil {
		return nil
	}
	return on()
}

func (c *checker) passBad(on func() error) error {
	if c.onlyGood {
		return nil
	}
	return c.pass(on)
}

// finish checks the last partition as a whole.
func (c *checker) finish() error {
	if !c.begun {
		return nil
	}
	c.begun = false
	if h := c.head; h != nil {
		if c.count != h.Policies || c.codec.SealSum(c.partition, c.sum) != h.State {
			c.find(c.keys.Policies, "the %d documents that verify do not add up to the head's digest of %d", c.count, h.Policies)
		}
		if c.logs && c.last != h.Cursor && c.last.Revision <= h.Revision {
			c.find(c.keys.Log, "ends at %s, the head is at %s", c.last, h.Cursor)
		}
		if !c.logs && h.Revision > 0 {
			c.find(c.keys.Log, "is missing, the head is at %s", h.Cursor)
		}
		if !c.severed && (c.audit.Sequence != h.Audit.Sequence || string(c.audit.Chain) != string(h.Audit.Chain)) {
			c.find(c.keys.Audit, "ends with row %d, the head says with row %d", c.audit.Sequence, h.Audit.Sequence)
		}
	}
	if c.next == nil {
		return nil
	}
	return c.next.done(c.proof)
}

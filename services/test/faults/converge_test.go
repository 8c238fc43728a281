package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// convergeBound is how long all processes may take to equal the store after the last fault.
const convergeBound = 30 * time.Second

const (
	apart      = "not equal to the store at the end"
	stranger   = "the store has a token that no caller created"
	unverified = "the store does not verify"
	badAudit   = "the audit trail does not verify"
	noAudit    = "an acknowledged change is not in the audit trail"
)

// converge waits until all validators and authorities equal the store.
func (c *campaign) converge(ctx context.Context) {
	began := time.Now()
	for {
		err := c.equal(ctx)
		c.converged = time.Since(began)
		if err == nil {
			return
		}
		if c.converged > convergeBound {
			c.oracle.violate(apart, c.oracle.now(), "%v", err)
			return
		}
		pause(ctx, pollInterval)
	}
}

func (c *campaign) equal(ctx context.Context) error {
	v, err := c.lookNow(ctx)
	if err != nil {
		return err
	}
	for _, s := range c.seats {
		if err := c.equalSeat(ctx, s, v); err != nil {
			return fmt.Errorf("%s: %w", s.id, err)
		}
	}
	for _, a := range c.authorities {
		if err := c.equalAuthority(ctx, a, v); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

func (c *campaign) lookNow(ctx context.Context) (*view, error) {
	masters, err := c.topology.masters()
	if err != nil {
		return nil, err
	}
	return look(ctx, c.oracle, masters, c.codec)
}

// equalSeat compares cursors, digests and every policy of a validator with the store.
func (c *campaign) equalSeat(ctx context.Context, s *seat, v *view) error {
	now := s.now.Load()
	if now == nil {
		return errors.New("it does not run")
	}
	if s.process != nil {
		return c.equalReport(ctx, s, v)
	}
	r, count := now.Replica(), 0
	if r == nil {
		return errors.New("the validator has not found the store")
	}
	for i := range c.codec.Partitions() {
		head, there := v.heads[i]
		cursor, sum, loaded := r.State(i)
		switch {
		case !there || !loaded:
			return fmt.Errorf("partition %d: head %t, loaded %t", i, there, loaded)
		case cursor != head.Cursor:
			return fmt.Errorf("partition %d is at %s, the store at %s", i, cursor, head.Cursor)
		case c.codec.SealSum(i, sum) != head.State:
			return fmt.Errorf("partition %d has another digest", i)
		case r.Forked(i):
			return fmt.Errorf("partition %d: the validator rejects the store, or the store lacks %d changes", i, len(r.Orphans(i)))
		}
		for appID, entry := range r.Table().Partition(i).All() {
			count++
			d := v.documents[appID]
			if d == nil {
				return fmt.Errorf("app %s is not in the store", appID)
			}
			want, err := d.Policy()
			if err != nil {
				return err
			}
			got := entry.StoredPolicy()
			if got == nil || entry.Behind() || got.Enforcement() != want.Enforcement() || got.Deleted() != want.Deleted() ||
				!slices.Equal(got.Tokens(), want.Tokens()) {
				return fmt.Errorf("app %s differs from the store", appID)
			}
		}
	}
	if count != len(v.documents) {
		return fmt.Errorf("%d apps, the store has %d", count, len(v.documents))
	}
	return nil
}

// equalReport compares a validator's report, as every authority shows it, with the store.
func (c *campaign) equalReport(ctx context.Context, s *seat, v *view) error {
	for _, a := range c.authorities {
		if err := c.equalReportAt(ctx, a, s.id, v); err != nil {
			return fmt.Errorf("by the report that %s has: %w", a.name, err)
		}
	}
	return nil
}

func (c *campaign) equalReportAt(ctx context.Context, a *authority, id string, v *view) error {
	ctx, cancel := context.WithTimeout(c.asAdmin(ctx), callTimeout)
	defer cancel()
	answer, err := a.client.ListValidators(ctx, &countersignv1.ListValidatorsRequest{})
	if err != nil {
		return err
	}
	for _, listed := range answer.GetValidators() {
		if listed.GetValidatorId() != id {
			continue
		}
		if n := listed.GetOrphanCount(); n > 0 || listed.GetStale() || len(listed.GetCursors()) != len(v.heads) {
			return fmt.Errorf("%d orphans, stale %t, %d partitions", n, listed.GetStale(), len(listed.GetCursors()))
		}
		for _, at := range listed.GetCursors() {
			if head := v.heads[int(at.GetPartition())]; head.Epoch != at.GetEpoch() || head.Revision != at.GetRevision() {
				return fmt.Errorf("partition %d is at %d/%d, the store at %s (report of %s ago)",
					at.GetPartition(), at.GetEpoch(), at.GetRevision(), head.Cursor, listed.GetReportAge().AsDuration())
			}
		}
		return nil
	}
	return errors.New("it is not known")
}

// asAdmin returns a context for calls to an authority.
func (c *campaign) asAdmin(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.adminKey)
}

// equalAuthority compares the list of apps of an authority with the store.
func (c *campaign) equalAuthority(ctx context.Context, a *authority, v *view) error {
	ctx, cancel := context.WithTimeout(c.asAdmin(ctx), callTimeout)
	defer cancel()
	count, want := 0, 0
	for _, d := range v.documents {
		if !d.Deleted {
			want++
		}
	}
	for page := ""; ; {
		answer, err := a.client.ListApps(ctx, &countersignv1.ListAppsRequest{PageSize: 1000, PageToken: page})
		if err != nil {
			return err
		}
		for _, listed := range answer.GetApps() {
			count++
			stored, err := a.client.GetApp(ctx, &countersignv1.GetAppRequest{AppId: listed.GetAppId()})
			if err != nil {
				return err
			}
			if stored.GetApp().GetEtag() != listed.GetEtag() || listed.GetUnverified() {
				return fmt.Errorf("app %s differs from the store", listed.GetAppId())
			}
		}
		if page = answer.GetNextPageToken(); page == "" {
			break
		}
	}
	if count != want {
		return fmt.Errorf("%d apps, the store has %d", count, want)
	}
	return nil
}

// finish judges the final content of the store, and returns the report.
func (c *campaign) finish(took time.Duration) *summary {
	ctx := context.Background()
	v, err := c.lookNow(ctx)
	if err != nil {
		c.oracle.violate(apart, c.oracle.now(), "the store cannot be read: %v", err)
	} else {
		for _, g := range c.oracle.gaps(v) {
			c.oracle.violate(lostAgain, c.oracle.now(), "at the end: %s", g.what)
		}
		for _, what := range c.oracle.unknownTokens(v) {
			c.oracle.violate(stranger, c.oracle.now(), "%s", what)
		}
	}
	switch verified, err := c.operator.verify(ctx); {
	case err != nil:
		c.oracle.violate(unverified, c.oracle.now(), "%v", err)
	case len(verified.Findings) > 0:
		c.oracle.violate(unverified, c.oracle.now(), "%d findings, among them: %s", len(verified.Findings), verified.Findings[0])
	}
	rows, lost := c.audit(ctx, v)
	r := c.newSummary()
	r.Took, r.AuditRows, r.AuditLost, r.Converged = took, rows, lost, c.converged
	c.t.Logf("%s", r)
	if c.options.report != "" {
		check.NoError(c.t, r.write(c.options.report))
	}
	if len(r.Violations) > 0 {
		c.t.Errorf("%d promises were broken; seed %d", len(r.Violations), r.Seed)
	}
	return r
}

// audit verifies the audit trail of every partition. Every acknowledged change must be in it, unless a loss
// of the store may have taken it (B23).
func (c *campaign) audit(ctx context.Context, v *view) (rows, lost int) {
	requests := map[string]bool{}
	for i := range c.codec.Partitions() {
		var tail record.AuditTail
		for _, raw := range c.auditOf(ctx, i) {
			event, next, err := c.codec.OpenAudit(i, tail, []byte(raw))
			if err != nil {
				c.oracle.violate(badAudit, c.oracle.now(), "partition %d: %v", i, err)
				break
			}
			rows++
			tail = next
			requests[event.GetRequestId()] = true
		}
		if v != nil && v.heads[i].Audit.Sequence != tail.Sequence {
			c.oracle.violate(badAudit, c.oracle.now(), "partition %d: the trail ends with row %d, the head says %d", i, tail.Sequence,
				v.heads[i].Audit.Sequence)
		}
	}
	losses := *c.oracle.losses.Load()
	for _, a := range c.stats.acknowledged {
		switch {
		case requests[a.requestID]:
		case slices.ContainsFunc(losses, func(l *loss) bool { return l.covers(a.made) }):
			lost++
		default:
			position, _ := record.DecodePosition(a.position)
			c.oracle.violate(noAudit, a.acked, "%s %s of app %s, sent %s, acknowledged %s by %s, durable %t, at %s", a.method,
				a.requestID, a.app.id, a.sent, a.acked, a.by.name, a.durable, position)
		}
	}
	return rows, lost
}

func (c *campaign) auditOf(ctx context.Context, partition int) (rows []string) {
	for _, g := range c.topology.groups {
		entries, err := g.current().direct.XRange(ctx, record.KeysOf(partition).Audit, "-", "+").Result()
		if err != nil && !strings.HasPrefix(err.Error(), "MOVED") {
			c.oracle.violate(badAudit, c.oracle.now(), "partition %d: %v", partition, err)
		}
		for _, entry := range entries {
			row, _ := entry.Values[redisfeed.AuditField].(string)
			rows = append(rows, row)
		}
	}
	return rows
}

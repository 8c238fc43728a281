package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/table"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{record.ErrMalformed}, args...)...)
}

func cursorToProto(c record.Cursor) *countersignv1.SnapshotCursor {
	return &countersignv1.SnapshotCursor{Epoch: c.Epoch, Revision: c.Revision, Tag: c.Tag[:]}
}

func cursorFromProto(m *countersignv1.SnapshotCursor) (record.Cursor, error) {
	c := record.Cursor{Epoch: m.GetEpoch(), Revision: m.GetRevision()}
	if len(m.GetTag()) != len(c.Tag) || c != (record.Cursor{}) && !c.Valid() {
		return c, malformed("cursor: epoch %d, revision %d", c.Epoch, c.Revision)
	}
	copy(c.Tag[:], m.GetTag())
	return c, nil
}

func appToProto(app replica.App) (*countersignv1.SnapshotApp, error) {
	e := app.Entry
	m := &countersignv1.SnapshotApp{AppId: app.ID, Revision: e.Revision, PolicyRevision: e.PolicyRevision}
	if !e.Since.IsZero() {
		m.SinceMillis = e.Since.UnixMilli()
	}
	var err error
	if m.Policy, err = policyToProto(e.StoredPolicy()); err != nil {
		return nil, fmt.Errorf("app %s: %w", app.ID, err)
	}
	return m, nil
}

func appFromProto(m *countersignv1.SnapshotApp) (replica.App, error) {
	e := &table.Entry{Revision: m.GetRevision(), PolicyRevision: m.GetPolicyRevision()}
	if m.GetSinceMillis() != 0 {
		e.Since = time.UnixMilli(m.GetSinceMillis())
	}
	var err error
	if e.Policy, err = policyFromProto(m.GetPolicy()); err != nil {
		return replica.App{}, fmt.Errorf("app %s: %w", m.GetAppId(), err)
	}
	return replica.App{ID: m.GetAppId(), Entry: e}, nil
}

// separator stands between the ids of tokens. No id contains it.
const separator = " "

func policyToProto(p *policy.Policy) (*countersignv1.SnapshotPolicy, error) {
	if p == nil {
		return nil, nil
	}
	tokens, e := p.Tokens(), p.Enforcement()
	m := &countersignv1.SnapshotPolicy{
		Enforcement: &countersignv1.Enforcement{
			Scopes: uint64(e.Scopes), TrialEndMillis: e.TrialEndMillis, ScopesAfterTrial: uint64(e.After),
		},
		Deleted: p.Deleted(), Remembered: p.Memory().Bytes(), RememberedImported: p.Memory().Imported,
		Digests: make([]byte, 0, len(tokens)*len(secret.Digest{})), States: make([]byte, len(tokens)),
	}
	ids := make([]string, len(tokens))
	for i := range tokens {
		t := &tokens[i]
		if strings.Contains(t.ID, separator) {
			return nil, fmt.Errorf("the id of token %q has a space", t.ID)
		}
		ids[i], m.States[i], m.Digests = t.ID, byte(t.State), append(m.Digests, t.Digest[:]...)
	}
	m.TokenIds = strings.Join(ids, separator)
	m.Scopes = column(tokens, func(t *policy.Token) uint64 { return uint64(t.Scopes) })
	m.ExpireMillis = column(tokens, func(t *policy.Token) int64 { return t.ExpireMillis })
	m.Imported = column(tokens, func(t *policy.Token) bool { return t.Imported })
	return m, nil
}

// column returns one value of each token; nil when all are zero.
func column[T comparable](tokens []policy.Token, of func(*policy.Token) T) []T {
	var zero T
	var values []T
	for i := range tokens {
		if v := of(&tokens[i]); v != zero {
			if values == nil {
				values = make([]T, len(tokens))
			}
			values[i] = v
		}
	}
	return values
}

func policyFromProto(m *countersignv1.SnapshotPolicy) (*policy.Policy, error) {
	if m == nil {
		return nil, nil
	}
	n := len(m.GetStates())
	tokens := make([]policy.Token, n)
	ids := m.GetTokenIds()
	for i := range tokens {
		t := &tokens[i]
		var found bool
		if t.ID, ids, found = strings.Cut(ids, separator); found != (i < n-1) {
			return nil, malformed("ids of %d tokens", n)
		}
		if len(m.GetDigests()) != n*len(t.Digest) {
			return nil, malformed("digests of %d tokens", n)
		}
		copy(t.Digest[:], m.GetDigests()[i*len(t.Digest):])
		t.State = policy.State(m.GetStates()[i])
	}
	ok := spread(tokens, m.GetScopes(), func(t *policy.Token, v uint64) { t.Scopes = policy.ScopeSet(v) }) &&
		spread(tokens, m.GetExpireMillis(), func(t *policy.Token, v int64) { t.ExpireMillis = v }) &&
		spread(tokens, m.GetImported(), func(t *policy.Token, v bool) { t.Imported = v })
	if !ok || n == 0 && (ids != "" || len(m.GetDigests()) > 0) {
		return nil, malformed("columns of %d tokens", n)
	}
	memory, err := policy.MemoryOf(m.GetRemembered(), m.GetRememberedImported())
	if err != nil {
		return nil, malformed("%v", err)
	}
	e := m.GetEnforcement()
	return policy.NewWithMemory(policy.Enforcement{
		Scopes: policy.ScopeSet(e.GetScopes()), TrialEndMillis: e.GetTrialEndMillis(),
		After: policy.ScopeSet(e.GetScopesAfterTrial()),
	}, tokens, m.GetDeleted(), memory)
}

// spread sets each token's value from a column. It returns false when the lengths differ.
func spread[T any](tokens []policy.Token, values []T, set func(*policy.Token, T)) bool {
	if len(values) == 0 {
		return true
	}
	if len(values) != len(tokens) {
		return false
	}
	for i := range tokens {
		set(&tokens[i], values[i])
	}
	return true
}

// sizeOf returns roughly how many bytes an app takes.
func sizeOf(m *countersignv1.SnapshotApp) int {
	p := m.GetPolicy()
	return len(m.GetAppId()) + len(p.GetTokenIds()) + len(p.GetDigests()) + 16*len(p.GetStates()) + len(p.GetRemembered()) + 32
}

// stickySize is roughly how many bytes a SnapshotSticky takes.
const stickySize = 150

func stickyToProto(s replica.Sticky) *countersignv1.SnapshotSticky {
	t := s.Token
	return &countersignv1.SnapshotSticky{AppId: s.AppID, Token: &countersignv1.PolicyToken{
		TokenId: t.ID, Digest: t.Digest[:], Scopes: uint64(t.Scopes), State: countersignv1.TokenState(t.State),
		ExpireMillis: t.ExpireMillis, Imported: t.Imported,
	}}
}

func stickyFromProto(m *countersignv1.SnapshotSticky) (replica.Sticky, error) {
	from := m.GetToken()
	t := policy.Token{
		ID: from.GetTokenId(), Scopes: policy.ScopeSet(from.GetScopes()), State: policy.State(from.GetState()),
		ExpireMillis: from.GetExpireMillis(), Imported: from.GetImported(),
	}
	if len(from.GetDigest()) != len(t.Digest) {
		return replica.Sticky{}, malformed("digest of token %q", t.ID)
	}
	copy(t.Digest[:], from.GetDigest())
	return replica.Sticky{AppID: m.GetAppId(), Token: t}, nil
}

// contents returns the contents at the beginning of a partition.
func (r *Reader) contents(p *countersignv1.SnapshotPartition) (*replica.Contents, error) {
	c := &replica.Contents{Partition: int(p.GetPartition()), Missing: p.GetMissingApps()}
	for _, at := range []struct {
		from *countersignv1.SnapshotCursor
		to   *record.Cursor
	}{{p.GetCursor(), &c.Cursor}, {p.GetConfirmed(), &c.Confirmed}, {p.GetBase(), &c.Base}} {
		var err error
		if *at.to, err = cursorFromProto(at.from); err != nil {
			return nil, err
		}
	}
	for _, m := range p.GetForks() {
		fork, err := cursorFromProto(m)
		if err != nil {
			return nil, err
		}
		c.Forks = append(c.Forks, fork)
	}
	if p.GetVerifyMillis() != 0 {
		c.VerifyTime = time.UnixMilli(p.GetVerifyMillis())
	}
	var err error
	c.Sum, err = r.codec.RevealSum(r.file, c.Partition, p.GetHiddenSum(), cmp.Or(p.GetSumKeyId(), r.keyID))
	return c, err
}

// fill adds a record to a partition.
func fill(c *replica.Contents, m *countersignv1.SnapshotRecord) error {
	c.Apps = slices.Grow(c.Apps, len(m.GetApps()))
	for _, raw := range m.GetApps() {
		app, err := appFromProto(raw)
		if err != nil {
			return err
		}
		c.Apps = append(c.Apps, app)
	}
	for _, raw := range m.GetSticky() {
		kept, err := stickyFromProto(raw)
		if err != nil {
			return err
		}
		c.Sticky = append(c.Sticky, kept)
	}
	c.Links = append(c.Links, m.GetLinks()...)
	c.Orphans = append(c.Orphans, m.GetOrphans()...)
	return nil
}

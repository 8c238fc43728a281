package snapshot

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestColumnsThatDoNotFitAreRefused: a column has one value for each token, or none at all.
func TestColumnsThatDoNotFitAreRefused(t *testing.T) {
	whole := func() *countersignv1.SnapshotPolicy {
		var tokens []policy.Token
		for _, id := range []string{"tok_a", "tok_b"} {
			tokens = append(tokens, policy.Token{
				ID: id, Digest: secret.Digest{id[4]}, State: policy.Active, Scopes: 2,
				ExpireMillis: 1, Imported: true,
			})
		}
		p, err := policy.New(policy.Enforcement{Scopes: 2}, tokens, false)
		if err != nil {
			t.Fatal(err)
		}
		m, err := policyToProto(p)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if _, err := policyFromProto(whole()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*countersignv1.SnapshotPolicy){
		"an id too few":      func(m *countersignv1.SnapshotPolicy) { m.TokenIds = "tok_a" },
		"an id too many":     func(m *countersignv1.SnapshotPolicy) { m.TokenIds += " tok_c" },
		"a digest too few":   func(m *countersignv1.SnapshotPolicy) { m.Digests = m.GetDigests()[len(secret.Digest{}):] },
		"a byte too many":    func(m *countersignv1.SnapshotPolicy) { m.Digests = append(m.GetDigests(), 0) },
		"scopes too few":     func(m *countersignv1.SnapshotPolicy) { m.Scopes = m.GetScopes()[1:] },
		"scopes too many":    func(m *countersignv1.SnapshotPolicy) { m.Scopes = append(m.GetScopes(), 1) },
		"expiries too few":   func(m *countersignv1.SnapshotPolicy) { m.ExpireMillis = m.GetExpireMillis()[1:] },
		"imported too many":  func(m *countersignv1.SnapshotPolicy) { m.Imported = append(m.GetImported(), true) },
		"ids without tokens": func(m *countersignv1.SnapshotPolicy) { noTokens(m); m.TokenIds = "tok_a" },
		"digests without any": func(m *countersignv1.SnapshotPolicy) {
			noTokens(m)
			m.Digests = make([]byte,
				len(secret.Digest{}))
		},
	} {
		m := whole()
		spoil(m)
		if _, err := policyFromProto(m); err == nil || !strings.Contains(err.Error(), "tokens") {
			t.Errorf("%s: %v", name, err)
		}
	}
	empty := whole()
	noTokens(empty)
	if p, err := policyFromProto(empty); err != nil || len(p.Tokens()) != 0 {
		t.Errorf("no tokens: %v, %v", p, err)
	}
}

func noTokens(m *countersignv1.SnapshotPolicy) {
	m.TokenIds, m.Digests, m.States, m.Scopes, m.ExpireMillis, m.Imported = "", nil, nil, nil, nil, nil
}

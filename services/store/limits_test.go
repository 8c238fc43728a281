package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
)

// TestB08_AChangePastALimitIsRefused: a change that would exceed a limit fails before anything is written. An
// app whose document cannot be opened could never be changed again, not even to revoke a token.
func TestB08_AChangePastALimitIsRefused(t *testing.T) {
	s := newSystem(t)
	st := s.open(s.redis.URL())
	const app = "limited"
	if _, err := st.Update(t.Context(), call(app, "first", add("first"))); err != nil {
		t.Fatal(err)
	}
	head := func() string {
		raw, err := s.client.Get(t.Context(), s.keysOf(app).Head).Result()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	held := head()
	for name, change := range map[string]func(*record.Document){
		"tokens": func(d *record.Document) {
			for i := range policy.MaxTokens {
				id := fmt.Sprint("tok_", i)
				d.Tokens = append(d.Tokens, record.Token{Token: policy.Token{
					ID: id, Digest: secret.DigestOf(id),
					State: policy.Revoked,
				}})
			}
		},
		"bytes":   func(d *record.Document) { d.Tokens[0].Note = strings.Repeat("x", record.MaxDocument) },
		"digests": func(d *record.Document) { d.Tokens = append(d.Tokens, d.Tokens[0]) },
	} {
		_, err := st.Update(t.Context(), call(app, name, func(before *record.Document) (*record.Document, error) {
			after := edit(before)
			change(after)
			return after, nil
		}))
		if e := (*apierr.Error)(nil); !errors.As(err, &e) || e.Code() != codes.ResourceExhausted || e.Reason() != "STORE_LIMIT" {
			t.Errorf("%s: got %v, want RESOURCE_EXHAUSTED, STORE_LIMIT", name, err)
		}
		if head() != held {
			t.Errorf("%s: something was written", name)
		}
	}
	if _, err := st.Update(t.Context(), call(app, "second", add("second"))); err != nil {
		t.Errorf("the app cannot be changed any more: %v", err)
	}
}

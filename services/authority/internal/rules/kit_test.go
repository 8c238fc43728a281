package rules_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

const (
	events   policy.Scope = 1
	sessions policy.Scope = 2
	revenue  policy.Scope = 3
	gdpr                  = policy.ScopeGDPR

	day = 24 * time.Hour

	app = "pezwd5bre2xb"
)

var (
	// now is the time of most calls of the tests.
	now = time.UnixMilli(1_800_000_000_000)
	by  = rules.By{Identity: "ada", Now: now}
)

// later is the same identity after some time.
func later(d time.Duration) rules.By { return rules.By{Identity: "ada", Now: now.Add(d)} }

// millis returns a time relative to now, as documents store it.
func millis(d time.Duration) int64 { return now.Add(d).UnixMilli() }

func set(scopes ...policy.Scope) policy.ScopeSet { return policy.ScopesOf(scopes...) }

func ptr[T any](v T) *T { return &v }

// digest returns the digest of a strong secret.
func digest(of string) secret.Digest { return secret.DigestOf("secret of " + of) }

// token is an ACTIVE token of a document, named like its id.
func token(id string, scopes ...policy.Scope) record.Token {
	return record.Token{
		Token: policy.Token{ID: id, Digest: digest(id), Scopes: set(scopes...), State: policy.Active},
		Name:  id, Hint: "hinted", CreatedBy: "grace", CreateMillis: millis(-day), UpdateMillis: millis(-day),
	}
}

// with returns a token with a change.
func with(t record.Token, change func(*record.Token)) record.Token {
	change(&t)
	return t
}

func disabled(t record.Token) record.Token {
	return with(t, func(t *record.Token) { t.State = policy.Disabled })
}

func revoked(t record.Token) record.Token {
	return with(t, func(t *record.Token) { t.State, t.RevokeMillis = policy.Revoked, millis(-time.Hour) })
}

func expiring(t record.Token, in time.Duration) record.Token {
	return with(t, func(t *record.Token) { t.ExpireMillis = millis(in) })
}

func named(t record.Token, name string) record.Token {
	return with(t, func(t *record.Token) { t.Name = name })
}

// document returns an app's document with enforced scopes and tokens.
func document(enforced policy.ScopeSet, tokens ...record.Token) *record.Document {
	return &record.Document{
		AppID: app, Cursor: record.Cursor{Epoch: 1, Revision: 7, Tag: record.Tag{1}},
		Enforcement:  policy.Enforcement{Scopes: enforced},
		Tokens:       tokens,
		CreateMillis: millis(-day), UpdateMillis: millis(-day),
	}
}

// fresh returns a new token as package management makes it.
func fresh(name string, scopes ...policy.Scope) rules.NewToken {
	return rules.NewToken{
		ID: rules.NewTokenID(), Name: name, Scopes: set(scopes...), Digest: digest("new " + name),
		Hint: "abcdef",
	}
}

// update is an update of one token that checks no etag.
func update(id string, change func(*rules.Update)) rules.Update {
	u := rules.Update{TokenID: id, Check: func(*record.Token) error { return nil }}
	change(&u)
	return u
}

// pure checks that a call leaves its document unchanged, also when it fails, and returns no document with an
// error.
func pure(t testing.TB, before *record.Document, call func(*record.Document) (*record.Document, error),
) (*record.Document, error) {
	t.Helper()
	copied := clone(before)
	after, err := call(before)
	if !reflect.DeepEqual(before, copied) {
		t.Errorf("the document that went in was changed:\n got %+v\nwant %+v", before, copied)
	}
	if err != nil && after != nil {
		t.Errorf("a document came with the error %v", err)
	}
	return after, err
}

func clone(d *record.Document) *record.Document {
	if d == nil {
		return nil
	}
	copied := *d
	copied.Tokens = slices.Clone(d.Tokens)
	return &copied
}

// must checks that a call succeeds and changes something.
func mustChange(t testing.TB, before *record.Document, call func(*record.Document) (*record.Document, error),
) *record.Document {
	t.Helper()
	after, err := pure(t, before, call)
	if err != nil {
		t.Fatal(err)
	}
	if after == nil {
		t.Fatal("nothing was changed")
	}
	return after
}

// find returns a document's token by id.
func find(t testing.TB, d *record.Document, id string) record.Token {
	t.Helper()
	for _, token := range d.Tokens {
		if token.ID == id {
			return token
		}
	}
	t.Fatalf("no token %s in %+v", id, d.Tokens)
	return record.Token{}
}

// revokes tells whether a document denies a digest for ever.
func revokes(t testing.TB, d *record.Document, digest secret.Digest) bool {
	t.Helper()
	p, err := d.Policy()
	if err != nil {
		t.Fatal(err)
	}
	return p.Revokes(&policy.Token{ID: "any", Digest: digest})
}

// stateAt is the state of a document's token at a time from now.
func stateAt(t testing.TB, d *record.Document, id string, in time.Duration) policy.State {
	t.Helper()
	token := find(t, d, id)
	return token.StateAt(millis(in))
}

// failure is the part of an error that programs read.
type failure struct {
	code   codes.Code
	reason string
	field  string
}

func (f failure) String() string { return fmt.Sprintf("%s %s %q", f.code, f.reason, f.field) }

var (
	fine         = failure{}
	nameTaken    = failure{codes.AlreadyExists, "NAME_TAKEN", ""}
	secretTaken  = failure{codes.AlreadyExists, "SECRET_TAKEN", ""}
	tooMany      = failure{codes.ResourceExhausted, "TOO_MANY_TOKENS", ""}
	noSuchToken  = failure{codes.NotFound, "TOKEN_NOT_FOUND", ""}
	noSuchApp    = failure{codes.NotFound, "APP_NOT_FOUND", ""}
	tokenRevoked = failure{codes.FailedPrecondition, "TOKEN_REVOKED", "apps/" + app}
	notActive    = failure{codes.FailedPrecondition, "TOKEN_NOT_ACTIVE", "apps/" + app}
	hasSuccessor = failure{codes.FailedPrecondition, "ALREADY_ROTATED", "apps/" + app}
	lockout      = failure{codes.FailedPrecondition, "LOCKOUT", "apps/" + app}
	noCover      = failure{codes.FailedPrecondition, "NO_TOKEN_FOR_SCOPE", "apps/" + app}
	enforced     = failure{codes.FailedPrecondition, "ENFORCED", "apps/" + app}
)

func invalid(field string) failure {
	return failure{codes.InvalidArgument, "INVALID_FIELD", field}
}

// codeOf has the gRPC code of each kind of refusal.
var codeOf = map[rules.Kind]codes.Code{
	rules.Invalid: codes.InvalidArgument, rules.Unmet: codes.FailedPrecondition, rules.Missing: codes.NotFound,
	rules.Taken: codes.AlreadyExists, rules.Full: codes.ResourceExhausted,
}

// failureOf returns the failure of an error. For a precondition, the field is the subject up to the app.
func failureOf(t testing.TB, err error) failure {
	t.Helper()
	if err == nil {
		return fine
	}
	var r *rules.Error
	if !errors.As(err, &r) {
		t.Fatalf("not an error for callers: %v", err)
	}
	f := failure{code: codeOf[r.Kind], reason: r.Reason, field: r.Subject}
	switch r.Kind {
	case rules.Invalid:
		f.reason = "INVALID_FIELD"
	case rules.Unmet:
		f.field = r.Subject[:min(len(r.Subject), len("apps/"+app))]
	}
	return f
}

// scopesOf returns the scopes that an error names.
func scopesOf(err error) policy.ScopeSet {
	var r *rules.Error
	if errors.As(err, &r) {
		return r.Scopes
	}
	return 0
}

func wantFailure(t testing.TB, err error, want failure) {
	t.Helper()
	if got := failureOf(t, err); got != want {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

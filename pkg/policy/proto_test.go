package policy_test

import (
	"math/bits"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// reasons are all answers of Decide by their names in the API.
var reasons = map[string]policy.Reason{
	"REASON_APP_NOT_CONFIGURED":   policy.AppNotConfigured,
	"REASON_TOKEN_VALID":          policy.TokenValid,
	"REASON_TOKEN_VALID_UNSCOPED": policy.TokenValidUnscoped,
	"REASON_TOKEN_MISSING":        policy.TokenMissing,
	"REASON_TOKEN_MALFORMED":      policy.TokenMalformed,
	"REASON_TOKEN_UNKNOWN":        policy.TokenUnknown,
	"REASON_TOKEN_REVOKED":        policy.TokenRevoked,
	"REASON_TOKEN_DISABLED":       policy.TokenDisabled,
	"REASON_TOKEN_EXPIRED":        policy.TokenExpired,
	"REASON_SCOPE_NOT_GRANTED":    policy.ScopeNotGranted,
	"REASON_SOURCE_NOT_SUPPORTED": policy.SourceNotSupported,
}

// TestNumbersAreThoseOfTheAPI, so that the outer layers convert by number. A new value of these enums needs a
// meaning here, so the test fails until the package has it.
func TestNumbersAreThoseOfTheAPI(t *testing.T) {
	for _, enum := range []struct {
		name  string
		api   map[string]int32
		twins map[string]int32
	}{
		{"Reason", countersignv1.Reason_value, with(reasons, "REASON_UNSPECIFIED")},
		{"TokenState", countersignv1.TokenState_value, with(map[string]policy.State{
			"TOKEN_STATE_ACTIVE":   policy.Active,
			"TOKEN_STATE_DISABLED": policy.Disabled,
			"TOKEN_STATE_REVOKED":  policy.Revoked,
			"TOKEN_STATE_EXPIRED":  policy.Expired,
		}, "TOKEN_STATE_UNSPECIFIED")},
		{"Source", countersignv1.Source_value, with(map[string]policy.Source{
			"SOURCE_GOOGLE_TAG_MANAGER": policy.SourceGoogleTagManager,
		}, "SOURCE_UNSPECIFIED")},
	} {
		t.Run(enum.name, func(t *testing.T) {
			for name, number := range enum.api {
				if twin, ok := enum.twins[name]; !ok || twin != number {
					t.Errorf("%s is %d in the API and %d (known: %v) in the package", name, number, twin, ok)
				}
			}
			for name := range enum.twins {
				if _, ok := enum.api[name]; !ok {
					t.Errorf("%s is not in the API", name)
				}
			}
		})
	}
}

// with converts the package's numbers to the API's, and adds the name of zero.
func with[N ~uint8 | ~int32](numbers map[string]N, zero string) map[string]int32 {
	twins := map[string]int32{zero: 0}
	for name, number := range numbers {
		twins[name] = int32(number)
	}
	return twins
}

// TestScopesNeedNoTwin: a new scope is one enum value and needs no other change. Every value of the API
// works, values of later releases included. Only SCOPE_GDPR has a rule of its own.
func TestScopesNeedNoTwin(t *testing.T) {
	if got := countersignv1.Scope_value["SCOPE_GDPR"]; got != int32(policy.ScopeGDPR) {
		t.Errorf("SCOPE_GDPR is %d, ScopeGDPR %d", got, policy.ScopeGDPR)
	}
	numbers := map[int32]string{int32(future): "a later one"}
	for name, number := range countersignv1.Scope_value {
		if number == int32(countersignv1.Scope_SCOPE_UNSPECIFIED) {
			continue
		}
		if number < 1 || number > int32(policy.MaxScope) {
			t.Errorf("%s is %d, out of the range of a ScopeSet", name, number)
			continue
		}
		numbers[number] = name
	}
	for number, name := range numbers {
		if policy.Scope(number) != policy.ScopeGDPR {
			t.Run(name, func(t *testing.T) { checkOrdinaryScope(t, policy.Scope(number)) })
		}
	}
}

// TestEveryScopeNumberWorksAlike checks scopes that no enum has yet.
func TestEveryScopeNumberWorksAlike(t *testing.T) {
	for s := policy.Scope(1); s <= policy.MaxScope; s++ {
		if s != policy.ScopeGDPR {
			checkOrdinaryScope(t, s)
		}
	}
	if bits.Len64(uint64(policy.ScopesOf(policy.MaxScope))) != 64 {
		t.Errorf("MaxScope is %d, which leaves room in a ScopeSet", policy.MaxScope)
	}
}

// checkOrdinaryScope tries a scope without a rule of its own, granted and not, enforced and not.
func checkOrdinaryScope(t *testing.T, s policy.Scope) {
	t.Helper()
	other := events
	if s == other {
		other = sessions
	}
	tokens := []policy.Token{
		token(tokEvents, policy.Active, 0, s),
		token(tokFuture, policy.Active, 0, other),
		token(tokUnscoped, policy.Active, 0),
	}
	on, off := newPolicy(t, enforce(s), tokens...), newPolicy(t, enforce(), tokens...)
	otherOn := newPolicy(t, enforce(other), tokens...)
	for _, tt := range []struct {
		app   *policy.Policy
		token string
		want  policy.Decision
	}{
		{on, tokEvents, accept(policy.TokenValid, tokEvents)},
		{on, tokFuture, deny(policy.ScopeNotGranted, tokFuture)},
		{on, tokUnscoped, accept(policy.TokenValidUnscoped, tokUnscoped)},
		{on, noToken, deny(policy.TokenMissing, "")},
		{off, tokEvents, pass(policy.TokenValid, tokEvents)},
		{off, tokFuture, pass(policy.ScopeNotGranted, tokFuture)},
		{off, noToken, pass(policy.TokenMissing, "")},
		{otherOn, tokEvents, pass(policy.TokenValid, tokEvents)},
		{otherOn, noToken, pass(policy.TokenMissing, "")},
	} {
		got := policy.Decide(tt.app, policy.Request{Token: secret.New(texts[tt.token]), Scope: s, NowMillis: now})
		if got != tt.want {
			t.Errorf("scope %d, token %q: got %+v, want %+v", s, tt.token, got, tt.want)
		}
	}
}
